-- the words of an event that a process made: (2+n)*
local function unpacked(text)
  local words, pos = {}, 1
  while pos <= #text do
    words[#words + 1], pos = struct.unpack('>I2c0', text, pos)
  end
  return words
end
