// What the theme leaves undone on every page: formulas that fit, a hint where something scrolls sideways, pictures that open by themselves.
(() => {
  const SMALLEST = 0.7; // of a formula's usual size: below it one has to scroll

  const SCROLLED = "div.math mjx-container, span.math.is-wide mjx-container, div.cell_output .output, .pst-scrollable-table-container, article pre";

  function fit(formula) {
    const usual = (formula.dataset.usual ??= formula.style.fontSize || "100%");
    formula.style.fontSize = usual;
    const ratio = formula.clientWidth / formula.scrollWidth;
    if (ratio < 1) formula.style.fontSize = `calc(${usual} * ${Math.max(ratio * 0.99, SMALLEST)})`;
  }

  // A full stop after a formula may otherwise begin the next line.
  function keepTogether(formula) {
    const next = formula.nextSibling, mark = next?.nodeType === 3 && next.data.match(/^[.,;:!?)\]]+/);
    if (!mark) return;
    next.splitText(mark[0].length);
    const both = Object.assign(document.createElement("span"), { className: "keep-together" });
    formula.replaceWith(both);
    both.append(formula, next);
  }

  // Marked while there is more to the right.
  function hint(box) {
    box.classList.toggle("scrolls-sideways", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
  }

  function measure() {
    document.querySelectorAll("div.math mjx-container").forEach(fit);
    for (const formula of document.querySelectorAll("article span.math")) {
      formula.classList.remove("is-wide");
      const inner = formula.querySelector("mjx-container"), block = formula.closest("p, li, td, th, dd, dt, figcaption, h1, h2, h3, h4");
      const width = inner?.getBoundingClientRect().width + 8; // a comma may be kept beside it
      formula.classList.toggle("is-wide", Boolean(block) && width > block.clientWidth);
    }
    document.querySelectorAll(SCROLLED).forEach(hint);
  }

  document.addEventListener("DOMContentLoaded", () => {
    for (const picture of document.querySelectorAll("article .cell_output img, article figure img")) {
      if (picture.closest("a, .interactive")) continue;
      const link = Object.assign(document.createElement("a"), { className: "whole-picture", href: picture.src, title: "Open the picture by itself" });
      picture.replaceWith(link);
      link.append(picture);
    }
    const start = () => {
      document.querySelectorAll("article span.math").forEach(keepTogether);
      measure();
      document.addEventListener("scroll", ({ target }) => target.matches?.(SCROLLED) && hint(target), { capture: true, passive: true });
      // Not when the window is resized: the sidebars give their room to the text later, in a transition of their own.
      const article = document.querySelector("article");
      let width = article?.clientWidth;
      const changed = () => {
        if (article.clientWidth === width) return; // only higher or lower, as after every measurement
        width = article.clientWidth;
        measure();
      };
      if (article) new ResizeObserver(changed).observe(article);
      document.documentElement.dataset.settled = "yes"; // for tests: nothing moves from here on
    };
    window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(start));
  });
})();
