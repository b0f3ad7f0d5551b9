-- Takes one entry of a batch. An entry that can't be read (cut short, of another type, written past this library) stops
-- only itself: false is answered, and it is counted. Whatever else goes wrong (a slot being moved, a full server, a record
-- of a newer release, a damaged key that all sessions share) fails the whole call, as it must. Needs books.
local function attempt(step, ...)
  local ok, answer = pcall(step, ...)
  if ok then return true, answer end
  local text = type(answer) == 'table' and answer.err or tostring(answer)
  for _, sign in ipairs({'WRONGTYPE', 'too short', 'attempt to ', 'bad argument', 'DAMAGED'}) do
    if string.find(text, sign, 1, true) then
      count('damaged', 1)
      return false
    end
  end
  error(answer)
end
