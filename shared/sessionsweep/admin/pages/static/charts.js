/* The charts of the overview. How things stand is a sample that each renewal of the page brings, of which this tab keeps
   the last 15 minutes; what ended is told by the deployment, also of the time before the page was opened. */
"use strict";
(() => {
  const KEPT = 15 * 60; // s
  const STORE = `sessionsweep:${location.pathname}:samples`;
  let samples = [];
  let minutes = { at: [], ended: {} };

  try {
    samples = JSON.parse(sessionStorage.getItem(STORE)) ?? [];
  } catch {
    // begun anew
  }

  const take = () => {
    const live = document.getElementById("live");
    if (!live?.dataset.sample) return;
    minutes = JSON.parse(live.dataset.minutes);
    const sample = JSON.parse(live.dataset.sample);
    const last = samples.at(-1);
    if (last && (sample.at <= last.at || sample.active === undefined)) return;
    if (last && sample.created < last.created) samples = []; // another store
    samples = [...samples, sample].filter((one) => one.at > sample.at - KEPT);
    try {
      sessionStorage.setItem(STORE, JSON.stringify(samples));
    } catch {
      // full or forbidden: this page goes on from memory
    }
  };

  const at = () => samples.map((sample) => sample.at);
  const series = (key) => samples.map((sample) => sample[key]);
  const { byReason, rate, seconds, size, whole } = Plots;
  Plots.keep(
    {
      active: { at, lines: () => [["active", series("active"), "--c1"]], show: whole, least: 5, fill: "--tint" },
      ended: {
        at: () => minutes.at,
        lines: () => byReason((reason) => minutes.ended[reason] ?? minutes.at.map(() => 0)),
        show: whole, tell: rate, least: 4, stepped: true,
      },
      bytes: { at, lines: () => [["held", series("bytes"), "--c1"], ["owed", series("owed_bytes"), "--c2"]], show: size, least: 1000 },
      late: { at, lines: () => [["lag", series("late"), "--c5"]], show: seconds, least: 10, steps: true, fill: "--bad-tint" },
    },
    take,
  );
})();
