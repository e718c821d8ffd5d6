// Draws the pictures of experiments/interactive. All numbers come with the page; here they are only looked up.
(() => {
  const here = document.currentScript.src;

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
    const draw = () => spec.panels.forEach((panel, i) => Charts.draw(panels[i], panel));
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
      said.textContent = spec.said[index(spec.said_by)];
      draw();
    };
    form.addEventListener("input", update);
    update();
    let width = panels[0].clientWidth;
    new ResizeObserver(([{ target }]) => {
      if (target.clientWidth === width || !target.clientWidth) return; // in print it has none
      width = target.clientWidth;
      requestAnimationFrame(draw);
    }).observe(panels[0]);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const pictures = document.querySelectorAll(".interactive");
    if (!pictures.length) return;
    const library = make("script", { src: new URL("charts.js", here).href });
    library.addEventListener("load", () => pictures.forEach(start)); // without it the stills remain
    document.head.append(library);
  });
})();
