/* Warns before a session ends and offers to stay. No framework, no inline script, no styles that a policy could refuse.

   <script src="/sessionsweep/warning.js" defer></script>

   Attributes of the script element (all optional; {seconds} stands for the seconds left):
     data-warn="60"              seconds before the end at which to warn
     data-time-left, data-extend paths, "/sessionsweep/time-left" and "/sessionsweep/extend"
     data-title, data-text, data-stay, data-close, data-failed   the words, in your language
     data-ended-title, data-ended    heading and words once it is over
     data-after="/login"         where to go when it is over; without it the page stays as it is
   Events on document: "sessionsweep:warning", "sessionsweep:extended", "sessionsweep:ended".
   A page that begins, renews or ends its session without a reload says so, and the time left is asked for anew:
     document.dispatchEvent(new Event("sessionsweep:changed"))
   Asking for the time left never renews a session; only the button does. */
(function () {
  "use strict";
  var script = document.currentScript;
  var say = function (name, otherwise) { return script.getAttribute("data-" + name) || otherwise; };
  var warn = Number(say("warn", "60"));
  var timeLeftPath = say("time-left", "/sessionsweep/time-left");
  var extendPath = say("extend", "/sessionsweep/extend");
  var text = say("text", "You will be logged out in {seconds} seconds.");
  var LONGEST = 3600; // a timer that sleeps longer than a laptop is closed is of no use
  var dialog, title, line, announced, stay, close, failed;
  var deadline = 0, timer = 0, opener = null, wasLive = false, lastSaid = Infinity;
  var channel = typeof BroadcastChannel === "function" ? new BroadcastChannel("sessionsweep") : null;

  function tell(name, detail) { document.dispatchEvent(new CustomEvent("sessionsweep:" + name, {detail: detail})); }

  function left() { return Math.max(0, Math.ceil((deadline - performance.now()) / 1000)); }

  function later(seconds, what) {
    clearTimeout(timer);
    timer = setTimeout(what, Math.max(0.25, Math.min(seconds, LONGEST)) * 1000);
  }

  function ask(path, method) {
    return fetch(path, {method: method, credentials: "same-origin", cache: "no-store",
                        headers: {"Accept": "application/json"}})
      .then(function (answer) {
        if (!answer.ok) { throw new Error(String(answer.status)); }
        return answer.json();
      });
  }

  function take(body) {
    if (body.seconds === null) { return over(); }
    wasLive = true;
    deadline = performance.now() + body.seconds * 1000;
    if (body.seconds <= warn) { return show(); }
    hide();
    later(body.seconds - warn, look);
  }

  function look() { // other tabs and requests may have renewed it meanwhile
    ask(timeLeftPath, "GET").then(take, function () { later(Math.max(1, Math.min(left() / 2, 30)), look); });
  }

  function build() {
    dialog = document.createElement("dialog");
    dialog.className = "sessionsweep-warning";
    dialog.setAttribute("role", "alertdialog");
    title = document.createElement("h2");
    title.id = "sessionsweep-warning-title";
    line = document.createElement("p");
    line.id = "sessionsweep-warning-text";
    announced = document.createElement("p"); // read aloud now and then; the line above changes every second
    announced.setAttribute("aria-live", "assertive");
    announced.className = "sessionsweep-warning-announced";
    announced.style.cssText = "position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)";
    failed = document.createElement("p");
    failed.setAttribute("role", "alert");
    stay = document.createElement("button");
    stay.type = "button";
    stay.textContent = say("stay", "Stay logged in");
    stay.addEventListener("click", extend);
    close = document.createElement("button");
    close.type = "button";
    close.textContent = say("close", "Close");
    close.addEventListener("click", function () { dialog.close(); });
    dialog.setAttribute("aria-labelledby", title.id);
    dialog.setAttribute("aria-describedby", line.id);
    dialog.addEventListener("close", function () {
      if (opener && opener.focus) { opener.focus(); }
      opener = null;
    });
    dialog.append(title, line, announced, failed, stay, " ", close);
    document.body.appendChild(dialog);
  }

  function show() {
    if (!dialog) { build(); }
    if (!dialog.open && lastSaid === Infinity) {
      opener = document.activeElement;
      title.textContent = say("title", "Are you still there?");
      failed.textContent = "";
      stay.hidden = false;
      dialog.showModal();
      stay.focus();
      tell("warning", {seconds: left()});
    }
    count();
  }

  function count() {
    var seconds = left();
    line.textContent = text.replace("{seconds}", String(seconds));
    [60, 30, 10, 5].concat(warn).forEach(function (moment) {
      if (seconds <= moment && lastSaid > moment) { announced.textContent = line.textContent; }
    });
    lastSaid = seconds;
    if (seconds === 0) { return later(0.5, look); } // the server decides whether it is over
    later(1, seconds % 5 === 0 ? look : count); // another tab may have stayed
  }

  function hide() {
    lastSaid = Infinity;
    if (dialog && dialog.open) { dialog.close(); }
  }

  function extend() {
    stay.disabled = true;
    ask(extendPath, "POST").then(function (body) {
      stay.disabled = false;
      take(body);
      if (body.seconds !== null) {
        tell("extended", {seconds: body.seconds});
        if (channel) { channel.postMessage("extended"); }
      }
    }, function () {
      stay.disabled = false;
      failed.textContent = say("failed", "That did not work. Try again.");
    });
  }

  function over() {
    clearTimeout(timer);
    if (!wasLive) { return; } // there was none, or the page ended it itself: nothing to say
    wasLive = false;
    tell("ended", {});
    if (say("after", "")) { return location.assign(say("after", "")); }
    if (!dialog) { build(); }
    title.textContent = say("ended-title", "Your session is over");
    line.textContent = announced.textContent = say("ended", "You have been logged out.");
    failed.textContent = "";
    stay.hidden = true;
    if (!dialog.open) { dialog.showModal(); }
    close.focus();
  }

  if (channel) { channel.onmessage = look; }
  document.addEventListener("sessionsweep:changed", function () { wasLive = false; hide(); look(); });
  document.addEventListener("visibilitychange", function () { if (!document.hidden) { look(); } });
  if (document.readyState === "loading") { document.addEventListener("DOMContentLoaded", look); } else { look(); }
}());
