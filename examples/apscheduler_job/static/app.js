// The page's behaviour: three forms, and a look at the job's runs every other second. Its own session is looked at only
// when something happened to it: whoever asks for one that is over ends it, and the job would have nothing to do.

const $ = (id) => document.getElementById(id);

async function ask(method, address, body) {
  const answer = await fetch(address, { method, body }).catch(() => null);
  if (!answer) throw new Error("The server can't be reached.");
  const told = await answer.json().catch(() => null);
  if (!answer.ok) throw new Error(told?.error || `The server answered ${answer.status}.`);
  return told;
}

function say(text, bad = false) {
  $("said").textContent = text;
  $("said").classList.toggle("bad", bad);
}

const time = (text) => new Date(text).toLocaleTimeString();

let newest; // when the last run was that this page knows

async function lookAtRuns() {
  const { runs, next, interval } = await ask("GET", "/runs");
  $("next").textContent = next ? `The next run is at ${time(next)}, then every ${interval} s.` : "";
  $("never").hidden = runs.length > 0;
  $("runs").hidden = runs.length === 0;
  if (runs[0]?.at === newest) return;
  newest = runs[0].at;
  $("runs").tBodies[0].replaceChildren(...runs.map(row));
  if (runs[0].deleted_count) await lookAtMine();
}

function row(run) {
  const item = document.createElement("tr");
  item.insertCell().textContent = time(run.at);
  if (run.error) {
    const cell = item.insertCell();
    cell.colSpan = 2;
    cell.className = "bad";
    cell.textContent = "The session store didn't answer; the next run does it all.";
    return item;
  }
  item.insertCell().textContent = run.deleted_count;
  item.insertCell().textContent = run.files_deleted;
  return item;
}

async function lookAtMine() {
  const mine = await ask("GET", "/mine");
  $("mine").textContent = mine.seconds === null ? "None yet."
    : `${mine.notes} ${mine.notes === 1 ? "note" : "notes"}; your session lasts until ${time(Date.now() + 1000 * mine.seconds)}.`;
  $("leave").hidden = mine.seconds === null;
}

function onSubmit(form, work) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.submitter;
    button.disabled = true;
    try {
      await work();
      await lookAtRuns();
      await lookAtMine();
    } catch (error) {
      say(error.message, true);
    } finally {
      button.disabled = false;
      if (document.activeElement === document.body) button.focus(); // a disabled button loses the focus
    }
  });
}

onSubmit($("keep"), async () => {
  await ask("POST", "/notes", new FormData($("keep")));
  $("keep").reset();
  say("Kept.");
});
onSubmit($("leave"), async () => {
  await ask("POST", "/leave");
  say("You have left. The next run deletes your notes.");
  $("text").focus(); // the button that had the focus goes
});
onSubmit($("run"), async () => {
  await ask("POST", "/runs");
  say("It has been told to run.");
});

let away = false; // whether the last look failed
async function tick() {
  try {
    await lookAtRuns();
    if (away) say("");
    away = false;
  } catch (error) {
    away = true;
    say(error.message, true);
  }
}
setInterval(() => document.hidden || tick(), 2000);
tick();
lookAtMine().catch((error) => say(error.message, true));
