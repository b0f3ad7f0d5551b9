// The page's behaviour: every action is one request, and the clock runs down by itself without renewing anything.

const $ = (id) => document.getElementById(id);
const LOW = 60; // seconds: from here on the clock is red; the dialog of sessionsweep/warning.js warns then
let session = { session_id: null, expires_in: null, idle_timeout: 1 };
let ends = 0; // performance.now() at which the session is over
let clearing = 0;

function say(text, bad = false) {
  const said = $("said");
  said.classList.toggle("bad", bad);
  said.textContent = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => (said.textContent = ""), bad ? 10000 : 5000);
}

// Addresses are relative: the page also works below a path, where a front server stands before several nodes.
async function ask(method, address, body) {
  let answer;
  try {
    answer = await fetch(address, { method, body });
  } catch {
    throw new Error("The server can't be reached. Try again, or open another node.");
  }
  if (answer.status === 204) return null;
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.error || `The server answered ${answer.status}.`);
  return told;
}

async function act(button, work) {
  const focused = button !== null && button === document.activeElement;
  if (button) button.disabled = true; // which takes the focus from it
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  } finally {
    if (button) button.disabled = false;
    if (focused && document.activeElement === document.body) button.focus();
  }
}

// The session

async function look() {
  session = await ask("GET", "session");
  ends = session.session_id ? performance.now() + session.expires_in * 1000 : 0;
  const known = Boolean(session.user);
  $("log-in").hidden = known;
  $("log-out").hidden = !known;
  $("user-name").textContent = session.user || "";
  $("session-note").textContent = session.session_id
    ? "Whatever you do here renews it."
    : "No session yet. Your first note starts one.";
  tick();
}

function tick() {
  const left = session.session_id ? Math.max(0, (ends - performance.now()) / 1000) : null;
  const clock = $("clock");
  clock.textContent = left === null ? "–" : spoken(left);
  clock.classList.toggle("low", left !== null && left <= Math.min(LOW, session.idle_timeout / 4));
  $("bar").style.width = left === null ? "0" : `${Math.min(100, (100 * left) / session.idle_timeout)}%`;
  if (left === null) return;
  if (left === 0) {
    session.session_id = null;
    look().then(() => {
      if (session.session_id) return; // another tab kept it
      show([]);
      $("session-note").textContent = "Your session is over, and its notes with it. Your next note starts another.";
    }, () => {});
  }
}

function spoken(seconds) {
  const whole = Math.ceil(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

// The notes

async function list() {
  show(session.session_id ? (await ask("GET", "files")).files : []);
}

function show(files) {
  $("notes").replaceChildren(...[...files].reverse().map(card));
  $("empty").hidden = files.length > 0;
  const total = files.reduce((sum, file) => sum + file.size, 0);
  $("used").textContent = files.length ? `${files.length} ${files.length === 1 ? "note" : "notes"}, ${bytes(total)}` : "";
}

function card(file) {
  const item = $("note").content.cloneNode(true);
  const title = file.title || file.resource_id;
  const address = `files/${encodeURIComponent(file.resource_id)}`;
  item.querySelector("h3").textContent = title;
  const made = new Date(file.created);
  const facts = [
    file.purpose === "tts" ? "spoken" : file.purpose,
    bytes(file.size),
    made.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }),
    file.node ? `on ${file.node}` : "",
  ];
  item.querySelector(".facts").textContent = facts.filter(Boolean).join(" · ");
  const player = item.querySelector("audio");
  if (file.resource_id.includes(".")) {
    player.src = address;
    player.setAttribute("aria-label", `Play ${title}`);
    player.addEventListener("play", () => setTimeout(() => look().catch(() => {}), 500), { once: true });
    player.addEventListener("error", () => say(`“${title}” can't be played: its node may be down.`, true));
  } else {
    player.remove();
    const link = item.querySelector(".download");
    link.hidden = false;
    link.href = address;
    link.setAttribute("aria-label", `Download ${title}`);
  }
  const remove = item.querySelector(".remove");
  remove.setAttribute("aria-label", `Delete ${title}`);
  remove.addEventListener("click", () => act(remove, async () => {
    await ask("DELETE", address);
    say(`Deleted “${title}”.`);
    await refresh();
    $("notes-title").focus(); // the button that had the focus is gone
  }));
  return item;
}

function bytes(count) {
  if (count < 1000) return `${count} bytes`;
  return count < 1e6 ? `${Math.round(count / 1000)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

async function refresh() {
  await look();
  document.dispatchEvent(new Event("sessionsweep:changed")); // begun, renewed or ended: the warning asks anew
  await Promise.all([list(), listOthers()]);
}

// The user's other sessions

async function listOthers() {
  const { sessions } = session.user ? await ask("GET", "sessionsweep/others") : { sessions: [] };
  $("others-card").hidden = sessions.length === 0;
  $("others").replaceChildren(...sessions.map(other));
}

function other({ id, device, address, last_seen }) {
  const item = $("other").content.cloneNode(true);
  const name = `${browser(device || "")}, ${address || "address unknown"}`;
  const time = new Date(last_seen).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  item.querySelector("p").textContent = `${name}, last seen at ${time}`;
  const end = item.querySelector("button");
  end.setAttribute("aria-label", `End the session in ${name}`);
  end.addEventListener("click", () => endOthers(end, `sessionsweep/others/${encodeURIComponent(id)}/end`));
  return item;
}

// What people call it: a user agent names half of all browsers, the true one last.
function browser(agent) {
  const of = (names) => names.find((name) => agent.includes(name));
  const name = of(["Firefox", "Edg", "OPR", "Chrome", "Safari", "curl"])?.replace("Edg", "Edge").replace("OPR", "Opera");
  const system = of(["Android", "iPhone", "iPad", "Windows", "Mac OS", "Linux"]);
  return [name || "An unknown client", system].filter(Boolean).join(" on ");
}

function endOthers(button, address) {
  act(button, async () => {
    await ask("POST", address);
    say("Ended. Notes of an ended session are being deleted.");
    await listOthers();
    ($("others-card").hidden ? $("notes-title") : $("others-title")).focus(); // the button that had the focus is gone
  });
}

$("end-others").addEventListener("click", () => endOthers($("end-others"), "sessionsweep/others/end"));

// Making notes

async function send(file, name) {
  if (session.max_bytes && file.size > session.max_bytes) {
    throw new Error(`That is ${bytes(file.size)}; a session may hold ${bytes(session.max_bytes)}.`);
  }
  const form = new FormData();
  form.append("file", file, name);
  say(`Uploading “${name}”…`);
  await ask("POST", "files", form);
  say(`Saved “${name}” on ${$("node").textContent}.`);
  await refresh();
}

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) act(null, () => send(file, file.name)).finally(() => ($("file").value = ""));
});

$("text").addEventListener("input", () => {
  const left = Number($("text-count").dataset.most) - $("text").value.length;
  $("text-count").textContent = `${left} characters left`;
});

$("speak").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    await ask("POST", "speak", new URLSearchParams({ text: $("text").value }));
    $("speak").reset();
    $("text").dispatchEvent(new Event("input"));
    say(`Spoken and saved on ${$("node").textContent}.`);
    await refresh();
  });
});

$("log-in").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    await ask("POST", "login", new URLSearchParams({ user: $("user").value }));
    $("log-in").reset();
    say("You are logged in.");
    await refresh();
  });
});

$("log-out").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter, async () => {
    await ask("POST", "logout");
    say("You are logged out. Your notes are being deleted.");
    await refresh();
  });
});

let recorder = null;
if (navigator.mediaDevices && window.MediaRecorder) $("record").hidden = false; // only where a page may record
$("record").addEventListener("click", () => act(null, async () => {
  const button = $("record");
  if (recorder) {
    recorder.stop();
    return;
  }
  let sound;
  try {
    sound = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    throw new Error("The microphone can't be used. Allow it, or upload a file.");
  }
  const parts = [];
  recorder = new MediaRecorder(sound);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    sound.getTracks().forEach((track) => track.stop());
    const kind = recorder.mimeType;
    recorder = null;
    button.classList.remove("recording");
    button.lastElementChild.textContent = "Record";
    const suffix = kind.includes("mp4") ? "m4a" : kind.includes("ogg") ? "ogg" : "webm";
    const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    act(null, () => send(new Blob(parts, { type: kind }), `Recording ${time}.${suffix}`));
  });
  recorder.start();
  button.classList.add("recording");
  button.lastElementChild.textContent = "Stop and save";
}));

// What another tab did, or a sleeping laptop missed, is looked up; looking renews nothing.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look().then(listOthers).catch(() => {});
});
document.addEventListener("sessionsweep:extended", () => look().catch(() => {}));
setInterval(tick, 1000);
refresh().catch((error) => say(error.message, true));
