// Draws the charts of the overview with uPlot in place of the drawing in the page, for exact figures under the pointer.
"use strict";

(function () {
  const KINDS = ["answered", "other", "open", "skipped", "missed"];
  const NAMES = { answered: "answered", other: "by others", open: "open", skipped: "skipped", missed: "missed" };

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function axes() {
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const line = { stroke: colour("soft"), font: font, grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    return [
      Object.assign({}, line, { size: 26, gap: 4, grid: { show: false }, values: (plot, values) => values.map((v) => v.toLocaleString("en")) }),
      Object.assign({}, line, { size: 40, gap: 4, values: (plot, values) => values.map((v) => (v % 1 ? "" : String(v))) }),
    ];
  }

  function draw(place, data, series, tell) {
    const old = place.querySelector(".uplot");
    if (old) old.remove();
    const tip = place.parentElement.querySelector(".tip");
    place.classList.add("drawn");
    const step = data[0].length > 1 ? data[0][1] - data[0][0] : 1;
    const options = {
      width: place.clientWidth, height: place.clientHeight || 176, series: [{}].concat(series), axes: axes(),
      legend: { show: false },
      padding: [8, 18, 0, 0],  // the last label of the axis ends behind the last bar
      scales: { x: { time: false, range: (plot, first, last) => [first - step / 2, last + step / 2] }, y: { range: (plot, low, high) => [0, Math.max(1, high * 1.06)] } },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      hooks: { setCursor: [(plot) => { tip.textContent = plot.cursor.idx == null ? "" : tell(plot.cursor.idx); }] },
    };
    return new window.uPlot(options, data, place);
  }

  function bars(name) {
    return { stroke: colour(name), fill: colour(name), width: 0, paths: window.uPlot.paths.bars({ size: [0.8, 60] }), points: { show: false } };
  }

  function show() {
    const holder = document.querySelector("[data-charts]");
    if (!holder || !window.uPlot) return;
    const columns = JSON.parse(holder.dataset.charts);
    const blocks = (i) => "blocks " + columns.block[i].toLocaleString("en") + " to " + columns.last[i].toLocaleString("en") + ": ";
    // Each kind is drawn on those below it, the highest sum first.
    const sums = [];
    columns.block.forEach((_, i) => { let sum = 0; KINDS.forEach((kind, k) => { sum += columns[kind][i]; (sums[k] = sums[k] || []).push(sum); }); });
    const order = KINDS.map((_, k) => KINDS.length - 1 - k);
    draw(holder.querySelector("[data-plot=outcomes]"), [columns.block].concat(order.map((k) => sums[k])), order.map((k) => bars(KINDS[k])),
      (i) => blocks(i) + KINDS.filter((kind) => columns[kind][i]).map((kind) => columns[kind][i] + " " + NAMES[kind]).join(", "));
    draw(holder.querySelector("[data-plot=delays]"), [columns.block, columns.slowest, columns.median], [bars("slowest"), bars("median")],
      (i) => blocks(i) + (columns.median[i] == null ? "no answer" : "median " + columns.median[i] + ", slowest " + columns.slowest[i] + " blocks"));
  }

  let frame = 0;
  function later() { cancelAnimationFrame(frame); frame = requestAnimationFrame(show); }
  document.addEventListener("DOMContentLoaded", show);
  document.addEventListener("htmx:afterSwap", show);
  window.addEventListener("resize", later);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", later);
})();
