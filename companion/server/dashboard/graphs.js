"use strict";
// Two charts of the last minutes.

function draw() {
  if (typeof uPlot === "undefined") {
    for (const id of ["traffic", "times"]) at(id).textContent = "Built without its charts; `make run` builds with them.";
    return;
  }
  // Functions: the colours follow the scheme.
  const style = getComputedStyle(document.documentElement);
  const color = name => () => style.getPropertyValue(name).trim();
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { font, stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  const clock = (seconds, length) => new Date(seconds * 1000).toTimeString().slice(0, length);
  const recent = chart => {
    const times = chart.data[0], last = times.at(-1) ?? Date.now() / 1000;
    return [Math.min(times[0] ?? last, last - 60), last];
  };
  const chart = (id, names, colors, data) => {
    const place = at(id);
    const made = new uPlot({
      width: Math.max(place.clientWidth, 240), height: 190, cursor: { drag: { x: true, y: false } },
      axes: [{ ...axis, values: (u, ticks) => ticks.map(tick => clock(tick, ticks[1] - ticks[0] < 60 ? 8 : 5)), space: 80 }, { ...axis, size: 64 }],
      scales: { x: { range: recent }, y: { range: (u, min, max) => [0, Math.max((max || 0) * 1.1, 1)] } },
      series: [{ value: (u, at) => at === null || at === undefined ? "–" : clock(at, 8) }, ...names.map((label, index) => ({
        label, stroke: colors[index], width: 2, spanGaps: true, value: (u, number) => number === null || number === undefined ? "–" : number.toFixed(1),
      }))],
    }, data, place);
    new ResizeObserver(() => made.setSize({ width: Math.max(place.clientWidth, 240), height: 190 })).observe(place);
    return made;
  };
  state.charts = [
    chart("traffic", ["stored", "refused"], [color("--accent"), color("--bad")], state.traffic),
    chart("times", ["average", "95 of 100"], [color("--accent"), color("--bad")], state.times),
  ];
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of state.charts) chart.redraw();
});

function push(series, values) {
  series.forEach((points, index) => {
    points.push(values[index]);
    if (points.length > POINTS) points.shift();
  });
}

async function showGraphs() {
  const [durations, figures] = await Promise.all([ask("/performance"), ask("/monitoring/metrics")]);
  const sum = numbers => numbers.reduce((all, number) => all + number, 0);
  const counts = Object.values(figures.events);
  const now = Date.now() / 1000;
  const refused = sum(counts.map(count => count.WARNING || 0)), stored = sum(counts.flatMap(count => Object.values(count)));
  if (state.last) {
    const seconds = Math.max(now - state.last.now, 0.001);
    push(state.traffic, [now, Math.max(stored - state.last.stored, 0) / seconds, Math.max(refused - state.last.refused, 0) / seconds]);
  }
  state.last = { now, stored, refused };
  push(state.times, [now, durations.responses.average_ms, durations.responses.p95_ms]);
  at("times-none").hidden = durations.responses.average_ms !== null;
  [state.traffic, state.times].forEach((data, index) => {
    const chart = state.charts[index];
    if (!chart) return;
    chart.setData(data);
    // Where nobody points, the newest is told.
    if (data[0].length && (chart.cursor.idx === null || chart.cursor.idx === undefined)) chart.setLegend({ idx: data[0].length - 1 });
  });
}
