// The page's behaviour: one socket, whose session is over when it is silent for too long, and that comes back by itself.

import { io } from "./socket.io.esm.min.js";

const $ = (id) => document.getElementById(id);
const MOST = 200; // lines that are kept
const RETRY = 5000; // ms after which a server that said "try again later" is asked again
let user = "";
let over = null; // why the session ended
let retry = 0;

const socket = io({ autoConnect: false, transports: ["websocket"], auth: (give) => give({ user }) });

function state(text, bad = false) {
  $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

function show(inside) {
  $("join").hidden = inside;
  $("chat").hidden = $("sockets").hidden = !inside;
}

function out(why, bad = true) {
  clearTimeout(retry);
  show(false);
  state(why, bad);
  $("user").focus();
}

socket.on("connect", () => {
  const first = $("chat").hidden;
  show(true);
  $("me").textContent = user;
  state("You are connected.");
  if (first) $("text").focus();
});

// The server refuses (`active` is false then: nothing is tried again by itself), or can't be reached.
socket.on("connect_error", (error) => {
  if (socket.active) return state("The server can't be reached; trying again…", true);
  if (error.message !== "try again later") return out(`You can't join: ${error.message}.`);
  state("The server can't take you now; trying again…", true);
  retry = setTimeout(() => socket.connect(), RETRY);
});

socket.on("over", ({ reason }) => (over = reason));

socket.on("disconnect", () => {
  if (socket.active) return state("The connection is lost; trying again…", true);
  if (!over) return out("You have left.", false);
  out(over === "idle" ? "Your session is over: you were silent for too long." : `Your session is over: ${over}.`);
  over = null;
});

socket.on("pool", (pool) => {
  $("pool").replaceChildren(...pool.map(({ node, since }) => line(`on ${node}, since ${new Date(since).toLocaleTimeString()}`)));
});

socket.on("said", ({ user: who, text }) => {
  const said = $("said");
  const atEnd = said.scrollHeight - said.scrollTop - said.clientHeight < 8; // who reads further up stays there
  const name = document.createElement("b");
  name.textContent = who;
  const item = line("");
  item.append(name, " ", text);
  said.append(item);
  if (said.children.length > MOST) said.firstChild.remove();
  if (atEnd) said.scrollTop = said.scrollHeight;
  $("quiet").hidden = true;
});

function line(text) {
  const item = document.createElement("li");
  item.textContent = text;
  return item;
}

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(retry);
  user = $("user").value.trim();
  state("Connecting…");
  socket.connect();
});

$("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  event.submitter.disabled = true;
  try {
    const answer = await socket.timeout(10000).emitWithAck("say", $("text").value);
    if (answer?.error) throw new Error(answer.error);
    $("say").reset();
    state("You are connected.");
  } catch (error) {
    if (socket.connected) state(`That was not said: ${error.message}.`, true);
  } finally {
    event.submitter.disabled = false;
    $("text").focus();
  }
});

$("leave").addEventListener("submit", (event) => {
  event.preventDefault();
  socket.disconnect();
});
