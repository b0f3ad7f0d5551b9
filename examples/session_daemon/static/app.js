// The page's behaviour: one WebSocket. It comes back by itself, unless the daemon said that the session is over.

const $ = (id) => document.getElementById(id);
const [SESSION_OVER, BAD_MESSAGE] = [4401, 1007]; // then it is for the visitor to begin anew
const RETRY = 3000; // ms
const MOST = 200; // lines that are kept
let socket = null;
let leaving = false;
let retry = 0;

function state(text, bad = false) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

function show(inside) {
  $("join").hidden = inside;
  $("talk").hidden = $("others").hidden = !inside;
}

function line(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

function send(message) {
  if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function connect(id) {
  clearTimeout(retry);
  leaving = false;
  state("Connecting…");
  socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[?#].*/, ""));
  socket.addEventListener("open", () => send({ session_id: id }));
  socket.addEventListener("message", ({ data }) => hear(JSON.parse(data)));
  socket.addEventListener("close", ({ code, reason }) => {
    if (leaving || code === SESSION_OVER || code === BAD_MESSAGE) {
      show(false);
      state(leaving ? "You are not connected." : `The daemon closed the connection: ${reason}.`, !leaving);
      $("id").focus();
      return;
    }
    state(`${reason ? `The daemon said: ${reason}` : "The connection is lost"}; trying again…`, true);
    retry = setTimeout(connect, RETRY, id);
  });
}

function hear(message) {
  if (message.op === "welcome") {
    const first = $("talk").hidden;
    show(true);
    $("mine").textContent = message.session_id;
    state("You are connected.");
    if (first) $("text").focus();
    send({ op: "list" });
  } else if (message.op === "sessions") {
    $("ids").replaceChildren(...message.ids.map(line));
  } else {
    const echoes = $("echoes");
    echoes.append(line(message.message.text));
    if (echoes.children.length > MOST) echoes.firstChild.remove();
    echoes.scrollTop = echoes.scrollHeight;
  }
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  connect($("id").value);
});

$("send").addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return; // the words stay until it is back
  send({ op: "say", text: $("text").value });
  $("send").reset();
  $("text").focus();
});

$("look").addEventListener("click", () => send({ op: "list" }));
$("leave").addEventListener("click", () => {
  leaving = true;
  clearTimeout(retry);
  socket.close();
  if (socket.readyState === WebSocket.CLOSED) show(false), state("You are not connected."); // it was lost already
});
