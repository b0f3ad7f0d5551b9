/* What the charts of all pages have in common: how a figure is drawn, in which colours, and how numbers are written. */
"use strict";
const Plots = (() => {
  const HEIGHT = 170; // px
  const REASONS = ["idle", "expired", "logout", "user", "admin", "limit", "lost"];
  const STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400]; // s, on an axis of time

  // light-dark() is resolved where it is used as a colour: canvases take what an element shows
  const resolved = (name) => {
    const probe = document.createElement("i");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
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
  const rate = (n) => (Number.isInteger(n) ? n : +n.toPrecision(3)).toLocaleString("en");

  // those that happened: a line along zero says nothing
  const moved = (lines) => {
    const found = lines.filter((line) => line[1].some((number) => number > 0));
    return found.length ? found : [["none", lines[0][1].map((number) => number && 0), "--c7"]];
  };
  const byReason = (numbers) => moved(REASONS.map((reason, at) => [reason, numbers(reason), `--c${at + 1}`]));

  const UTC = { timeZone: "UTC" };
  const DAY = { ...UTC, day: "numeric", month: "short" };
  /* Times on an axis: of a day its hours, of a year its days; UTC, as everywhere. */
  const clock = (times) => {
    if (!times.length) return [];
    const apart = times.length > 1 ? times[1] - times[0] : 0;
    if (apart >= 86400) return times.map((t) => new Date(t * 1000).toLocaleDateString("en-GB", DAY));
    return times.map((t) => {
      const text = new Date(t * 1000).toLocaleTimeString("en-GB", UTC);
      if (apart % 60) return text;
      return text === "00:00:00" ? new Date(t * 1000).toLocaleDateString("en-GB", DAY) : text.slice(0, 5);
    });
  };

  const data = (kind) => {
    const [at, lines] = [kind.at(), kind.lines()];
    return [at, ...lines.map((line) => line[1])];
  };
  /* kind: at() → s, lines() → [label, numbers, colour, fill?], show(number), tell(number) in the legend;
     least: the axis reaches so far at any rate; steps: of an axis of durations; fill: of the area below a lone line,
     which needs no legend; stepped: a number counts until the next. */
  const draw = (holder, kind) => {
    const lines = kind.lines();
    const axis = { stroke: resolved("--soft"), grid: { stroke: resolved("--line"), width: 1 }, ticks: { show: false } };
    holder.replaceChildren();
    const options = {
      width: holder.clientWidth,
      height: HEIGHT,
      tzDate: (t) => uPlot.tzDate(new Date(t * 1000), "UTC"),
      cursor: { drag: { x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { time: true, range: ({ data: [at] }) => [Math.min(at[0], at.at(-1) - 120), at.at(-1)] }, // also of one point
        y: { range: (_, from, to) => [0, Math.max(to * 1.15, kind.least)] },
      },
      axes: [
        { ...axis, space: 80, size: 26, values: (_, at) => clock(at) },
        { ...axis, size: 62, ...(kind.steps && { incrs: STEPS }), values: (_, at) => at.map(kind.show) },
      ],
      series: [
        { label: "UTC" },
        ...lines.map(([label, numbers, name, fill = kind.fill]) => ({
          label,
          stroke: resolved(name),
          fill: fill && resolved(fill),
          width: numbers.length > 100 ? 1.5 : 2,
          ...(kind.stepped && { paths: uPlot.paths.stepped({ align: 1 }) }),
          points: { show: !kind.stepped && numbers.length < 3, size: 5 },
          // without a pointer: the newest
          value: (plot, value, line, at) => {
            const shown = at === null ? plot.data[line].findLast((number) => number !== null) : value;
            return shown === null || shown === undefined ? "–" : (kind.tell ?? kind.show)(shown);
          },
        })),
      ],
      legend: { show: !kind.fill },
    };
    return { plot: new uPlot(options, data(kind), holder), kind, holder, drawn: String(lines.map((line) => line[0])) };
  };

  /* All charts of a page, from its [data-chart]: drawn at once and anew whenever what they show changes its kind. */
  const keep = (kinds, take = () => {}) => {
    let charts = [];
    const redraw = () => {
      const section = document.getElementById("charts");
      if (section) section.hidden = false;
      for (const { plot } of charts) plot.destroy();
      charts = [...document.querySelectorAll("#charts [data-chart]")]
        .filter((holder) => kinds[holder.dataset.chart].at().length)
        .map((holder) => draw(holder, kinds[holder.dataset.chart]));
    };
    const changed = ({ holder, kind, plot, drawn }) =>
      !holder.isConnected || plot.data[0].length < 3 || drawn !== String(kind.lines().map((line) => line[0]));
    const renew = () => {
      take();
      const holders = document.querySelectorAll("#charts [data-chart]").length;
      if (charts.length < holders || charts.some(changed)) redraw();
      else for (const { plot, kind } of charts) plot.setData(data(kind));
    };
    document.addEventListener("htmx:after:swap", renew);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    let width = innerWidth;
    addEventListener("resize", () => {
      if (innerWidth === width) return;
      width = innerWidth;
      for (const { plot, holder } of charts) plot.setSize({ width: holder.clientWidth, height: HEIGHT });
    });
    renew();
  };

  return { byReason, keep, moved, rate, seconds, size, whole };
})();
