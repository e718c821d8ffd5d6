// Draws the pictures of experiments/interactive. All numbers come with the page; here they are only looked up.
(() => {
  const here = document.currentScript.src;

  function themed(panel, picture) {
    const text = getComputedStyle(picture).color; // what reads well on the card that the theme puts it on
    const grid = "rgba(128, 128, 128, 0.35)";
    const layout = structuredClone(panel.layout);
    for (const name of ["xaxis", "yaxis"])
      Object.assign(layout[name], { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true, fixedrange: true });
    Object.assign(layout, {
      autosize: true, height: 300, barmode: "group", dragmode: false,
      margin: { l: 45, r: 12, t: 36, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, size: 12 }, legend: { orientation: "h", y: -0.3, yanchor: "top" },
    });
    layout.title.font = { size: 14 };
    if (layout.showlegend) layout.height = 360;
    return layout;
  }

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  function input(control, id) {
    if (!control.choice)
      return make("input", { type: "range", id, min: 0, max: control.values.length - 1, step: 1, value: control.start });
    const list = make("select", { id });
    control.values.forEach((value, i) => list.append(make("option", { value: i, textContent: value })));
    list.value = control.start;
    return list;
  }

  function start(picture, number) {
    const spec = JSON.parse(picture.querySelector("script").textContent);
    const form = make("form", { className: "interactive-controls" });
    form.addEventListener("submit", (event) => event.preventDefault());
    const inputs = {}, shown = {};
    for (const control of spec.controls) {
      const id = `interactive-${number}-${control.name}`;
      inputs[control.name] = input(control, id);
      shown[control.name] = make("output", { htmlFor: id });
      const label = make("label", { htmlFor: id, textContent: control.label });
      form.append(make("div", {}, label, inputs[control.name], ...(control.choice ? [] : [shown[control.name]])));
    }
    const panels = spec.panels.map((panel) => {
      const box = make("div", { className: "interactive-panel", role: "img" });
      box.setAttribute("aria-label", panel.layout.title.text);
      return box;
    });
    const said = make("p", { className: "interactive-said" });
    said.setAttribute("role", "status");
    picture.append(make("div", { className: "interactive-live" }, form, make("div", { className: "interactive-panels" }, ...panels), said));
    picture.classList.add("is-live");

    const length = Object.fromEntries(spec.controls.map((c) => [c.name, c.values.length]));
    const index = (by) => by.reduce((i, name) => i * length[name] + Number(inputs[name].value), 0);
    const draw = () =>
      Promise.all(spec.panels.map((p, i) => Plotly.react(panels[i], p.data, themed(p, picture), { displayModeBar: false, responsive: true })));
    const update = () => {
      for (const change of spec.changes) {
        const trace = (spec.panels[change.panel].data[change.trace] = { ...spec.panels[change.panel].data[change.trace] });
        trace[change.field] = change.values[index(change.by)];
      }
      for (const control of spec.controls) {
        const value = control.values[Number(inputs[control.name].value)];
        shown[control.name].textContent = value;
        inputs[control.name].setAttribute("aria-valuetext", value);
      }
      said.textContent = spec.said[index(spec.controls.map((c) => c.name))];
      return draw();
    };
    form.addEventListener("input", update);
    new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
    return update();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const pictures = document.querySelectorAll(".interactive");
    if (!pictures.length) return;
    const library = make("script", { src: new URL("plotly.min.js", here).href });
    library.addEventListener("load", () => pictures.forEach(start)); // without it the stills remain
    document.head.append(library);
  });
})();
