/* The charts of the overview: each renewal of the page brings a sample; this tab keeps those of the last 15 minutes. */
"use strict";
(() => {
  const KEPT = 15 * 60; // s
  const HEIGHT = 170; // px
  const WINDOW = 60; // s over which ends are counted
  const STORE = `sessionsweep:${location.pathname}:samples`;
  const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400]; // s, on an axis of time
  const REASONS = ["idle", "expired", "logout", "user", "admin", "limit", "lost"];
  let samples = [];
  let charts = [];

  try {
    samples = JSON.parse(sessionStorage.getItem(STORE)) ?? [];
  } catch {
    // begun anew
  }

  const colour = (name) => getComputedStyle(document.body).getPropertyValue(name).trim();
  // light-dark() is resolved where it is used as a colour: canvases take what an element shows
  const resolved = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found || colour(name);
  };
  const size = (bytes) => {
    for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
      if (Math.abs(bytes) < 1000 || unit === "TB") return `${+bytes.toPrecision(3)} ${unit}`;
      bytes /= 1000;
    }
  };
  const seconds = (s) => {
    if (s < 60) return `${Math.round(s)} s`;
    return s < 3600 ? `${+(s / 60).toPrecision(2)} min` : `${+(s / 3600).toPrecision(2)} h`;
  };
  const whole = (n) => (Number.isInteger(n) ? n.toLocaleString("en") : "");

  const endedBy = (reason) =>
    samples.map((sample, at) => {
      let first = at;
      while (first > 0 && samples[first - 1].at >= sample.at - WINDOW) first -= 1;
      return first === at ? null : Math.max(0, sample.ended[reason] - samples[first].ended[reason]);
    });
  const series = (key) => samples.map((sample) => sample[key]);
  // those that happened here: a line along zero says nothing
  const endings = () => {
    const all = REASONS.map((reason, at) => [reason, endedBy(reason), `--c${at + 1}`]);
    const moved = all.filter((line) => line[1].some((number) => number > 0));
    return moved.length ? moved : [["none", samples.map(() => 0), "--c7"]];
  };
  const KINDS = {
    active: { lines: () => [["active", series("active"), "--c1"]], show: whole, least: 5, fill: "--tint" },
    ended: { lines: endings, show: whole, least: 4 },
    bytes: { lines: () => [["held", series("bytes"), "--c1"], ["owed", series("owed_bytes"), "--c2"]], show: size, least: 1000 },
    late: { lines: () => [["lag", series("late"), "--c5"]], show: seconds, least: 10, steps: STEPS, fill: "--bad-tint" },
  };

  const data = (kind) => [samples.map((sample) => sample.at), ...kind.lines().map((line) => line[1])];
  const draw = () => {
    const section = document.getElementById("charts");
    if (!section) return;
    section.hidden = false;
    for (const { plot } of charts) plot.destroy();
    charts = [...section.querySelectorAll("[data-chart]")].map((holder) => {
      const kind = KINDS[holder.dataset.chart];
      const axis = { stroke: resolved("--soft"), grid: { stroke: resolved("--line"), width: 1 }, ticks: { show: false } };
      const lines = kind.lines();
      holder.replaceChildren();
      const options = {
        width: holder.clientWidth,
        height: HEIGHT,
        cursor: { drag: { x: false, y: false }, points: { size: 7 } },
        scales: {
          x: { time: true, range: ({ data: [at] }) => [Math.min(at[0], at.at(-1) - 120), at.at(-1)] }, // also of one point
          y: { range: (_, from, to) => [0, Math.max(to * 1.15, kind.least)] },
        },
        axes: [
          { ...axis, space: 80, size: 26, values: (_, at) => at.map((t) => new Date(t * 1000).toLocaleTimeString("en-GB", { timeZone: "UTC" })) },
          { ...axis, size: 62, ...(kind.steps && { incrs: kind.steps }), values: (_, at) => at.map(kind.show) },
        ],
        series: [
          { label: "UTC" },
          ...lines.map(([label, , name]) => ({
            label,
            stroke: resolved(name),
            fill: kind.fill && resolved(kind.fill),
            width: 2,
            points: { show: samples.length < 3, size: 5 },
            // without a pointer: as it is now
            value: (plot, value, line, at) => {
              const shown = at === null ? plot.data[line].at(-1) : value;
              return shown === null || shown === undefined ? "–" : kind.show(shown);
            },
          })),
        ],
        legend: { show: !kind.fill },
      };
      return { plot: new uPlot(options, data(kind), holder), kind, holder, drawn: String(lines.map((line) => line[0])) };
    });
  };
  const take = () => {
    const text = document.getElementById("live")?.dataset.sample;
    if (!text) return;
    const sample = JSON.parse(text);
    const last = samples.at(-1);
    if (last && (sample.at <= last.at || sample.active === undefined)) return;
    if (last && REASONS.some((reason) => sample.ended[reason] < last.ended[reason])) samples = []; // another store
    samples = [...samples, sample].filter((one) => one.at > sample.at - KEPT);
    try {
      sessionStorage.setItem(STORE, JSON.stringify(samples));
    } catch {
      // full or forbidden: this page goes on from memory
    }
  };
  const renew = () => {
    take();
    const other = ({ holder, kind, drawn }) => !holder.isConnected || drawn !== String(kind.lines().map((line) => line[0]));
    if (!charts.length || charts.some(other) || samples.length <= 3) draw();
    else for (const { plot, kind } of charts) plot.setData(data(kind));
  };

  document.addEventListener("htmx:after:swap", renew);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    for (const { plot, holder } of charts) plot.setSize({ width: holder.clientWidth, height: HEIGHT });
  });
  renew();
})();
