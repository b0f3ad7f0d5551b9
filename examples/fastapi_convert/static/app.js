// The page's behaviour: each form is one request; an unfinished conversion is followed as a stream of events.

const $ = (id) => document.getElementById(id);
const streams = new Map(); // id of an upload: its EventSource
const MOST = 3; // streams at once: a browser opens six connections to a host, and the page needs some for itself
let waiting = []; // conversions whose stream is still to be opened
const percent = new Intl.NumberFormat("en", { style: "percent" });

function say(text, bad = false) {
  $("said").textContent = text;
  $("said").classList.toggle("bad", bad);
}

async function ask(method, address, body) {
  const answer = await fetch(address, { method, body }).catch(() => null);
  if (!answer) throw new Error("The server can't be reached.");
  if (answer.status === 204) return null;
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  throw new Error(told.error || (typeof told.detail === "string" ? told.detail : `The server answered ${answer.status}.`));
}

function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await work(form);
    } catch (error) {
      say(error.message, true);
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) button.focus(); // a disabled button loses the focus
    }
  });
}

function add(job) {
  const item = $("job").content.cloneNode(true).querySelector("li");
  item.querySelector("h3").textContent = job.name;
  item.querySelector("progress").setAttribute("aria-label", `Conversion of ${job.name}`);
  $("jobs").prepend(item);
  $("none").hidden = true;
  $("leave").hidden = false;
  if (job.result) return ready(item, job);
  if (job.error) return over(item, job.error);
  follow(item, job);
}

function follow(item, job) {
  item.querySelector(".state").textContent = "Waiting for its turn";
  waiting.push([item, job]);
  next();
}

function next() {
  while (waiting.length && streams.size < MOST) open(...waiting.shift());
}

function open(item, job) {
  const stream = new EventSource(`/progress/${encodeURIComponent(job.id)}`);
  streams.set(job.id, stream);
  const last = (event, then) =>
    stream.addEventListener(event, (told) => {
      stream.close(); // or the browser would ask again
      streams.delete(job.id);
      next();
      then(JSON.parse(told.data));
      changed(); // the job kept the session, and does no more
    });
  stream.addEventListener("progress", (told) => {
    const { done } = JSON.parse(told.data);
    item.querySelector("progress").value = done;
    if (done) item.querySelector(".state").textContent = `Converting: ${percent.format(done)}`;
  });
  last("done", ({ id }) => ready(item, { ...job, result: id }));
  last("failed", ({ error }) => over(item, error));
  stream.addEventListener("session-ended", () => clear("Your session is over, and your files with it."));
  stream.addEventListener("error", () => {
    if (stream.readyState !== EventSource.CLOSED) return; // it tries again by itself
    streams.delete(job.id);
    over(item, "Nothing more is known of it; reload the page.");
    next();
  });
}

function ready(item, job) {
  const address = `/files/${encodeURIComponent(job.result)}`;
  const [player, link] = [item.querySelector("audio"), item.querySelector("a")];
  item.querySelector("progress").remove();
  item.querySelector(".state").textContent = "Converted";
  player.src = link.href = address;
  player.hidden = link.hidden = false;
  player.setAttribute("aria-label", `Play ${job.name}`);
  link.setAttribute("aria-label", `Download ${job.name}`);
}

function over(item, why) {
  item.querySelector("progress")?.remove();
  item.querySelector(".state").textContent = why;
}

function clear(why) {
  streams.forEach((stream) => stream.close());
  streams.clear();
  waiting = [];
  $("jobs").replaceChildren();
  $("none").hidden = false;
  $("leave").hidden = true;
  say(why);
  changed();
}

// Tells sessionsweep/warning.js that the session began, was renewed or is over.
function changed() {
  document.dispatchEvent(new Event("sessionsweep:changed"));
}

async function send(form, name) {
  const { id } = await ask("POST", "/files", new FormData(form));
  form.reset();
  say("");
  add({ id, name });
  changed();
}

onSubmit($("upload"), (form) => send(form, $("file").files[0].name));
onSubmit($("whistle"), (form) => send(form, $("text").value.trim()));
onSubmit($("leave"), async () => {
  await ask("POST", "/logout");
  clear("You have left, and your files are deleted.");
  $("files").focus(); // the button that had the focus is gone
});
document.addEventListener("sessionsweep:ended", () => clear("Your session is over, and your files with it."));
ask("GET", "/files").then((jobs) => jobs.forEach(add), (error) => say(error.message, true));
