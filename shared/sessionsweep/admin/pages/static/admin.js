/* What every page does with a script: it doesn't ask while nobody looks, and says when it can't be renewed. */
"use strict";
(() => {
  const stale = document.getElementById("stale");
  let renewed = new Date();

  document.addEventListener("htmx:before:request", (event) => {
    if (document.hidden) event.preventDefault(); // a tab in the background costs the store nothing
  });
  document.addEventListener("htmx:after:swap", () => {
    renewed = new Date();
    stale.hidden = true;
  });
  document.addEventListener("htmx:error", () => {
    stale.textContent = `The admin side can't be reached. What you see is of ${renewed.toISOString().slice(11, 19)} UTC.`;
    stale.hidden = false;
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches("[data-all]")) return;
    for (const box of event.target.closest("form").querySelectorAll("input[name=id]")) box.checked = event.target.checked;
  });
  document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }); // on a phone
  for (const all of document.querySelectorAll("[data-all]")) all.hidden = false;
})();
