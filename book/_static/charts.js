// Draws one panel as SVG: lines, markers, words, bars and a heat map, on linear, logarithmic and category axes. The words for them are Plotly's, of
// which the pictures need this much; its whole library would be a quarter of the site.
window.Charts = (() => {
  const HEIGHT = 300; // pixels; a legend stands below
  const LETTER = 6.6; // the width of a digit at 12 pixels
  const NEAR = 24; // pixels from the pointer to the point that it asks about

  function svg(tag, attributes = {}, ...children) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const minus = (text) => (Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−")); // what is rounded to 0 has no sign
  const range = (low, high, step) => Array.from({ length: Math.max(0, Math.floor(high / step + 1e-9) - Math.ceil(low / step - 1e-9) + 1) }, (_, i) => (Math.ceil(low / step - 1e-9) + i) * step);

  // 1, 2 or 5 times a power of ten: about six of them in a range.
  function roundStep(width) {
    const ten = 10 ** Math.floor(Math.log10(width / 6));
    return [1, 2, 5, 10].map((digit) => digit * ten).find((step) => width / step <= 6.5);
  }

  // What an axis says: where a value lies on it (null: nowhere), its two ends, and its ticks.
  function read(axis, name, traces) {
    const log = axis.type === "log";
    if (axis.type === "category") {
      const names = [...new Set(traces.flatMap((trace) => trace[name]))];
      return { place: (value) => names.indexOf(value), ends: [-0.5, names.length - 0.5], ticks: names.map((text, at) => ({ at, text })) };
    }
    const cells = traces.find((trace) => trace.type === "heatmap")?.[name]; // a heat map ends half a cell beyond the middles of its cells
    let ends = axis.range ?? [cells[0] - 0.5, cells.at(-1) + 0.5];
    if (axis.autorange === "reversed") ends = [ends[1], ends[0]];
    const [low, high] = [Math.min(...ends), Math.max(...ends)];
    const step = axis.dtick ?? roundStep(high - low), digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    const place = (value) => (value === null || (log && value <= 0) ? null : log ? Math.log10(value) : value);
    const ticks = range(low, high, step).map((at) => (log ? { at, text: "10", power: minus(String(at)) } : { at, text: minus(at.toFixed(digits)) }));
    return { place, ends, ticks };
  }

  // Where values of an axis lie between two pixels.
  const between = ({ place, ends }, from, to) => (value) => {
    const at = place(value);
    return at === null ? null : from + ((to - from) * (at - ends[0])) / (ends[1] - ends[0]);
  };

  // One unit is as long across as up: the axis with more room for it keeps some empty.
  function equal(x, y, frame) {
    const width = frame.right - frame.left, height = frame.bottom - frame.top, span = ({ ends }) => Math.abs(ends[1] - ends[0]);
    const unit = Math.min(width / span(x), height / span(y)), aside = (width - unit * span(x)) / 2, above = (height - unit * span(y)) / 2;
    return { left: frame.left + aside, right: frame.right - aside, top: frame.top + above, bottom: frame.bottom - above };
  }

  const widest = (ticks) => Math.max(0, ...ticks.map(({ text, power }) => LETTER * text.length + (power ? 0.75 * LETTER * power.length : 0)));

  function tickText({ text, power }, attributes) {
    const element = svg("text", attributes, text);
    if (power) element.append(svg("tspan", { dy: "-0.45em", "font-size": "75%" }, power));
    return element;
  }

  function drawAxes(layout, x, y, frame) {
    const group = svg("g");
    const shown = (axis) => axis.visible !== false;
    if (shown(layout.xaxis)) {
      const at = (tick) => frame.left + ((frame.right - frame.left) * (tick.at - x.ends[0])) / (x.ends[1] - x.ends[0]);
      const every = Math.ceil(((widest(x.ticks) + 6) * x.ticks.length) / (frame.right - frame.left)); // what has no room is left out
      x.ticks.forEach((tick, i) => {
        if (layout.xaxis.type !== "category") group.append(svg("line", { class: "grid", x1: at(tick), x2: at(tick), y1: frame.top, y2: frame.bottom }));
        if (i % every === 0) group.append(tickText(tick, { x: at(tick), y: frame.bottom + 19, "text-anchor": "middle" }));
      });
      group.append(svg("text", { class: "axis", x: (frame.left + frame.right) / 2, y: frame.bottom + 38, "text-anchor": "middle" }, layout.xaxis.title.text));
    }
    if (shown(layout.yaxis)) {
      const at = (tick) => frame.bottom + ((frame.top - frame.bottom) * (tick.at - y.ends[0])) / (y.ends[1] - y.ends[0]);
      for (const tick of y.ticks) {
        group.append(svg("line", { class: "grid", x1: frame.left, x2: frame.right, y1: at(tick), y2: at(tick) }));
        group.append(tickText(tick, { x: frame.left - 6, y: at(tick) + 4, "text-anchor": "end" }));
      }
      const middle = `translate(13 ${(frame.top + frame.bottom) / 2}) rotate(-90)`;
      group.append(svg("text", { class: "axis", transform: middle, "text-anchor": "middle" }, layout.yaxis.title.text));
    }
    return group;
  }

  const DASHES = { solid: "none", dot: "1 1", dash: "3 3", longdash: "5 5" }; // in widths of the line, of 3 pixels at least

  function drawLine(trace, at) {
    let path = "", open = false;
    trace.x.forEach((value, i) => {
      const [x, y] = at(value, trace.y[i]);
      if (x !== null && y !== null) path += `${open ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`;
      open = x !== null && y !== null;
    });
    const { color, width, dash } = trace.line, unit = Math.max(width, 3);
    const dashes = DASHES[dash].replace(/\d+/g, (n) => n * unit);
    return [svg("path", { d: path, fill: "none", stroke: color, "stroke-width": width, "stroke-dasharray": dashes, "stroke-linejoin": "round" })];
  }

  const CROSS = "M-1 -.6L-.6 -1L0 -.4L.6 -1L1 -.6L.4 0L1 .6L.6 1L0 .4L-.6 1L-1 .6L-.4 0Z";

  function drawMarkers(trace, at) {
    const { color, size, symbol, line } = trace.marker;
    return trace.x.flatMap((value, i) => {
      const [x, y] = at(value, trace.y[i]);
      if (x === null || y === null) return [];
      const look = { fill: Array.isArray(color) ? color[i] : color, stroke: line?.color ?? "none", "stroke-width": line?.width ?? 0 };
      if (symbol !== "x") return [svg("circle", { cx: x, cy: y, r: size / 2, ...look })];
      return [svg("path", { d: CROSS, transform: `translate(${x} ${y}) scale(${size / 2})`, "vector-effect": "non-scaling-stroke", ...look })];
    });
  }

  const drawWords = (trace, at) =>
    trace.text.map((word, i) => {
      const [x, y] = at(trace.x[i], trace.y[i]);
      return svg("text", { x, y: y + 4, "text-anchor": "middle" }, word);
    });

  // Beside those of the other traces: together they fill four fifths of a class's room.
  function drawBars(trace, at, frame, bars) {
    const room = Math.abs(at(trace.x[1], 1)[0] - at(trace.x[0], 1)[0]), width = (0.8 * room) / bars.length;
    return trace.x.flatMap((name, i) => {
      const [middle, end] = at(name, trace.y[i]);
      if (end === null) return [];
      const left = middle + width * (bars.indexOf(trace) - bars.length / 2), top = Math.max(end, frame.top);
      return [svg("rect", { x: left, y: top, width, height: Math.max(0, frame.bottom - top), fill: trace.marker.color })];
    });
  }

  function colourAt(scale, part) {
    const next = Math.max(1, scale.findIndex(([x]) => x >= part)), [from, to] = [scale[next - 1], scale[next]];
    const channels = ([, hex]) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)), weight = (part - from[0]) / (to[0] - from[0]);
    return channels(from).map((value, i) => Math.round(value + weight * (channels(to)[i] - value)));
  }

  function drawMap(trace, at) {
    const [x0, y0] = at(0, 0), [x1, y1] = at(1, 1), width = Math.abs(x1 - x0), height = Math.abs(y1 - y0);
    return trace.z.flatMap((row, i) =>
      row.flatMap((value, j) => {
        const part = Math.min(1, Math.max(0, (value - trace.zmin) / (trace.zmax - trace.zmin))), colour = colourAt(trace.colorscale, part);
        const [x, y] = at(trace.x[j], trace.y[i]), dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140;
        const cell = svg("rect", { x: x - width / 2, y: y - height / 2, width: width + 0.5, height: height + 0.5, fill: `rgb(${colour})` });
        return [cell, svg("text", { x, y: y + 4, "text-anchor": "middle", style: `fill: ${dark ? "#fff" : "#000"}` }, minus(value.toFixed(3)))];
      }),
    );
  }

  function drawTrace(trace, at, frame, bars) {
    if (trace.type === "heatmap") return drawMap(trace, at);
    if (trace.type === "bar") return drawBars(trace, at, frame, bars);
    return { lines: drawLine, markers: drawMarkers, text: drawWords }[trace.mode](trace, at);
  }

  function legend(traces) {
    const list = document.createElement("ul");
    list.className = "chart-legend";
    for (const { name, line, marker } of traces) {
      const item = document.createElement("li"), key = svg("svg", { width: 26, height: 12, "aria-hidden": "true" });
      const dash = DASHES[line?.dash ?? "solid"].replace(/\d+/g, (n) => n * Math.max(line?.width ?? 0, 3));
      if (line) key.append(svg("line", { x1: 0, x2: 26, y1: 6, y2: 6, stroke: line.color, "stroke-width": line.width, "stroke-dasharray": dash }));
      else if (Array.isArray(marker.color)) key.append(svg("path", { d: CROSS, transform: "translate(13 6) scale(5)", fill: "currentColor" }));
      else key.append(svg("rect", { x: 7, width: 12, height: 12, fill: marker.color }));
      item.append(key, name);
      list.append(item);
    }
    return list;
  }

  const said = (value) => (typeof value === "number" ? minus(String(Number(value.toPrecision(4)))) : value);

  // The numbers of the point that the pointer is near.
  function answer(picture, traces, at, frame) {
    const points = traces
      .filter((trace) => trace.type === "bar" || (trace.type === "scatter" && trace.mode !== "text"))
      .flatMap((trace) => trace.x.map((x, i) => ({ place: at(x, trace.y[i]), text: `${trace.name ? trace.name + ": " : ""}${said(x)}, ${said(trace.y[i])}` })))
      .filter(({ place }) => place[0] !== null && place[1] !== null);
    const label = svg("text", { class: "answer", "text-anchor": "middle" });
    picture.append(label);
    picture.addEventListener("pointermove", ({ clientX, clientY }) => {
      const box = picture.getBoundingClientRect(), far = ({ place }) => Math.hypot(place[0] - clientX + box.left, place[1] - clientY + box.top);
      const nearest = points.reduce((best, point) => (far(point) < far(best) ? point : best), points[0]);
      label.textContent = nearest && far(nearest) < NEAR ? nearest.text : "";
      if (!label.textContent) return;
      const half = label.getComputedTextLength() / 2, right = Number(picture.getAttribute("width")) - half;
      label.setAttribute("x", Math.max(half, Math.min(right, nearest.place[0])));
      label.setAttribute("y", Math.max(frame.top, nearest.place[1] - 12));
    });
    picture.addEventListener("pointerleave", () => (label.textContent = ""));
  }

  let count = 0;

  // Draws a panel into a box, in place of what it held.
  function draw(box, { data, layout }) {
    box.data = data;
    const width = box.clientWidth, x = read(layout.xaxis, "x", data), y = read(layout.yaxis, "y", data);
    const hidden = layout.yaxis.visible === false, title = layout.yaxis.title.text ? 20 : 0;
    let frame = { left: hidden ? 12 : title + widest(y.ticks) + 10, right: width - 12, top: 36, bottom: HEIGHT - (hidden ? 12 : 50) };
    if (layout.yaxis.scaleanchor) frame = equal(x, y, frame);
    const [across, up] = [between(x, frame.left, frame.right), between(y, frame.bottom, frame.top)], at = (a, b) => [across(a), up(b)];
    const clip = `chart-${count++}`, bars = data.filter((trace) => trace.type === "bar");
    const rectangle = svg("rect", { x: frame.left, y: frame.top, width: frame.right - frame.left, height: frame.bottom - frame.top });
    const picture = svg("svg", { class: "chart", width, height: HEIGHT }, svg("defs", {}, svg("clipPath", { id: clip }, rectangle)));
    picture.append(svg("text", { class: "title", x: width / 2, y: 20, "text-anchor": "middle" }, layout.title.text), drawAxes(layout, x, y, frame));
    for (const trace of data) {
      const free = trace.cliponaxis === false || trace.mode === "text";
      picture.append(svg("g", free ? {} : { "clip-path": `url(#${clip})` }, ...drawTrace(trace, at, frame, bars)));
    }
    const named = layout.showlegend ? data.filter((trace) => trace.name && trace.showlegend !== false) : [];
    box.replaceChildren(picture, ...(named.length ? [legend(named)] : []));
    answer(picture, data, at, frame);
  }

  return { draw };
})();
