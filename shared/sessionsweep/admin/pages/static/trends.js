/* The charts of the trends: a number counts from its step's begin to the next one's. */
"use strict";
(() => {
  let told = { at: [] };
  const take = () => {
    told = JSON.parse(document.getElementById("live")?.dataset.trends ?? '{"at":[]}');
  };
  const at = () => told.at;
  const lines = (...named) => () => named.map(([label, key, ...drawn]) => [label, told[key], ...drawn]);
  const { byReason, rate, seconds, size, whole } = Plots;
  const counted = { at, show: whole, tell: rate, least: 4, stepped: true };
  const bytes = { at, show: size, least: 1000, stepped: true };
  Plots.keep(
    {
      sessions: { ...counted, lines: lines(["created", "created", "--c1", "--tint"], ["ended", "ended", "--c2"]) },
      reasons: { ...counted, lines: () => byReason((reason) => told.reasons[reason] ?? told.at.map(() => 0)) },
      active: { ...counted, lines: lines(["active", "active", "--c1"]), fill: "--tint" },
      duration: { ...counted, lines: lines(["mean", "duration", "--c4"]), show: seconds, tell: seconds, least: 10, steps: true },
      resources: { ...counted, lines: lines(["registered", "registered", "--c1", "--tint"], ["reclaimed", "reclaimed", "--c2"]) },
      owed: { ...counted, lines: lines(["owed", "owed", "--c2"], ["dead letters", "dead", "--c5"]) },
      bytes: { ...bytes, lines: lines(["held", "bytes", "--c1", "--tint"], ["owed", "owed_bytes", "--c2"]) },
      freed: { ...bytes, lines: lines(["freed", "freed", "--c1"]), fill: "--tint" },
    },
    take,
  );
})();
