/* The live tail of events: new rows on top as they come; none while it is paused, or while nobody looks. */
"use strict";
(() => {
  const holder = document.getElementById("events");
  const feed = document.getElementById("feed");
  if (!holder?.dataset.source || !window.EventSource) return; // below a WSGI server there is none to follow
  const table = holder.querySelector("table");
  const body = table.tBodies[0];
  const blank = document.getElementById("row").content.querySelector("tr");
  const none = document.getElementById("none");
  const pause = document.getElementById("pause");
  const grave = new Set(holder.dataset.grave.split(" "));
  const kept = Number(holder.dataset.kept);
  const asked = new URLSearchParams(location.search);
  const shown = new Set();
  let cursor = holder.dataset.cursor;
  let source = null;
  let paused = false;
  let news = [];

  // text of strangers: what could turn a line around or hide in it is spelt out
  const harmless = (text) =>
    text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);
  const made = (event) => {
    const row = blank.cloneNode(true);
    const [time, name, session, what] = row.cells;
    time.firstElementChild.dateTime = event.at;
    time.firstElementChild.textContent = event.at.slice(0, 19).replace("T", " ");
    name.firstElementChild.textContent = event.name;
    name.firstElementChild.classList.toggle("bad", grave.has(event.name));
    if (event.session_id) {
      const link = session.firstElementChild;
      link.textContent = event.session_id;
      link.setAttribute("href", link.getAttribute("href").replace("/sessions//", `/sessions/${event.session_id}/`));
    } else session.textContent = "–";
    what.firstElementChild.textContent = harmless(event.told);
    return row;
  };
  const draw = () => {
    const rows = news.slice(-kept).map(made).reverse();
    news = [];
    if (!rows.length) return;
    body.prepend(...rows);
    while (body.rows.length > kept) body.rows[body.rows.length - 1].remove();
    table.hidden = false;
    none.hidden = true;
  };
  const say = (text, kind) => {
    if (feed.textContent !== text) feed.textContent = text;
    feed.className = `state ${kind}`;
  };
  const take = (message) => {
    cursor = message.lastEventId || cursor;
    const event = JSON.parse(message.data);
    const key = `${event.id} ${event.name}`;
    if (shown.has(key)) return; // a connection that was cut tells some again
    shown.add(key);
    if (shown.size > 20 * kept) shown.clear();
    if (!news.length) requestAnimationFrame(draw);
    news.push(event);
  };
  const stop = () => {
    source?.close();
    source = null;
  };
  const follow = () => {
    stop();
    if (paused || document.hidden) return;
    const query = new URLSearchParams({ name: asked.get("name") ?? "", session: asked.get("session") ?? "", cursor });
    source = new EventSource(`${holder.dataset.source}?${query}`);
    source.addEventListener("open", () => say("Live", "good"));
    source.addEventListener("message", take);
    source.addEventListener("away", () => say("The store doesn't answer", "bad"));
    source.addEventListener("back", () => say("Live", "good"));
    source.addEventListener("error", () => {
      if (source?.readyState === EventSource.CLOSED) say("Ended: load the page again", "bad");
      else say("Connecting…", "");
    });
  };

  pause.hidden = false;
  document.getElementById("again").hidden = true;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    follow();
    say(paused ? "Paused" : "Connecting…", "");
  });
  document.addEventListener("visibilitychange", follow);
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && follow());
  say("Connecting…", "");
  follow();
})();
