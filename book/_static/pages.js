// What the theme leaves undone on every page: formulas that fit, a hint where something scrolls sideways, pictures that open by themselves.
(() => {
  const SMALLEST = 0.7; // of a formula's usual size: below it one has to scroll

  const DISPLAYED = "article div.math mjx-container", INLINE = "article span.math";
  const BLOCK = "p, li, td, th, dd, dt, figcaption, h1, h2, h3, h4";
  const BOXES = "article mjx-container, div.cell_output .output, .pst-scrollable-table-container, article pre"; // what may scroll
  const LONG = 18; // letters: up to here the name of a row stays in one line on a telephone

  // A full stop after a formula may otherwise begin the next line, and a bracket before one end its own; so may the wide marks of Chinese.
  const CLOSING = /^[.,;:!?)\]，。；：！？、）」』”’]+/, OPENING = /[(\[（「『“‘]+$/;

  function keepTogether(formula) {
    const before = formula.previousSibling, after = formula.nextSibling;
    const opening = before?.nodeType === 3 && before.data.match(OPENING), closing = after?.nodeType === 3 && after.data.match(CLOSING);
    if (!opening && !closing) return;
    const both = Object.assign(document.createElement("span"), { className: "keep-together" });
    formula.replaceWith(both);
    if (opening) both.append(before.splitText(opening.index));
    both.append(formula);
    if (closing) {
      after.splitText(closing[0].length);
      both.append(after);
    }
  }

  // A long call may go on in the next line after a dot or a bracket, a long name after an underscore: between words, never inside of one.
  const parts = (word) => (word.length > LONG ? word.split(/(?<=[.,(\[=/])(?=[\p{L}_])/u) : [word]);
  const pieces = (part) => (part.length > LONG ? part.split(/(?<=_)(?=[^_])/) : [part]);

  function breakable(text) {
    const places = text.data.split(/(?<=\s)/).flatMap((word) => parts(word).flatMap(pieces));
    const begins = (i) => i === 0 || /\s$/.test(places[i - 1]);
    text.replaceWith(...places.flatMap((place, i) => (begins(i) ? [place] : [document.createElement("wbr"), place])));
  }

  // In a table of numbers, what has no space in it is one thing: an exponent does not leave its number.
  function keepWords(cell) {
    const text = cell.textContent.trim(), isName = cell.matches("tbody th");
    if (!isName) cell.classList.toggle("keep-together", !/\s/.test(text));
    else if (text.length <= LONG) cell.classList.add("keep-together");
    else {
      cell.classList.add("is-long");
      if (cell.firstChild.nodeType === Node.TEXT_NODE) breakable(cell.firstChild);
    }
  }

  const all = (selector) => [...document.querySelectorAll(selector)];

  // How wide the marks are that are kept beside a formula; a comma's width at least.
  function marksBeside(formula) {
    const both = formula.parentElement, texts = both.matches("span.keep-together") ? [...both.childNodes].filter((node) => node.nodeType === 3) : [];
    const width = (text) => {
      const range = document.createRange();
      range.selectNode(text);
      return range.getBoundingClientRect().width;
    };
    return Math.max(8, texts.reduce((sum, text) => sum + width(text), 2));
  }

  // Of a formula that is folded away, nothing can be said yet.
  function isTooWide(formula) {
    const inner = formula.querySelector("mjx-math"), block = formula.closest(BLOCK);
    return Boolean(block && inner?.offsetParent) && inner.getBoundingClientRect().width + marksBeside(formula) > block.clientWidth;
  }

  // Can be scrolled, and there is more to the right. What stands in the line of the text cannot, and has no width of its own.
  function goesOn(box) {
    const { display, overflowX } = getComputedStyle(box);
    return display !== "inline" && /auto|scroll/.test(overflowX) && box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
  }

  function hint(boxes) {
    const marks = boxes.map(goesOn);
    boxes.forEach((box, i) => box.classList.toggle("scrolls-sideways", marks[i]));
  }

  // Sizes and marks depend on the page as it is, never on what they were: all are reset, then all are read, then all are written.
  function measure() {
    const displayed = all(DISPLAYED), inline = all(INLINE);
    for (const formula of displayed) formula.style.fontSize = formula.dataset.usual ??= formula.style.fontSize || "100%";
    const ratios = displayed.map((formula) => formula.clientWidth / formula.scrollWidth), wide = inline.map(isTooWide);
    displayed.forEach((formula, i) => {
      if (ratios[i] < 1) formula.style.fontSize = `calc(${formula.dataset.usual} * ${Math.max(ratios[i] * 0.99, SMALLEST)})`;
    });
    inline.forEach((formula, i) => formula.classList.toggle("is-wide", wide[i]));
    hint(all(BOXES));
  }

  // Sidebars, folded parts, fonts, the window: each changes a box, what is in it or the block around it. The window alone would not do.
  function watch(changed) {
    const observer = new ResizeObserver(changed), boxes = all(BOXES), blocks = all(INLINE).map((formula) => formula.closest(BLOCK));
    for (const box of new Set([...boxes, ...boxes.flatMap((box) => [...box.children]), ...blocks])) if (box) observer.observe(box);
    document.fonts.addEventListener("loadingdone", changed); // a line of code has no box that grows with it
    matchMedia("print").addEventListener("change", changed);
    document.addEventListener("scroll", ({ target }) => target.matches?.(BOXES) && hint([target]), { capture: true, passive: true });
  }

  // Measuring changes sizes, and so is done once more: in the next frame, not within the observer's own.
  function oncePerFrame(task) {
    let due = false;
    return () => {
      if (due) return;
      due = true;
      requestAnimationFrame(() => {
        due = false;
        task();
      });
    };
  }

  document.addEventListener("DOMContentLoaded", () => {
    // Around a page in another language, the theme and the names of the chapters stay English.
    if (document.documentElement.lang !== "en") for (const part of all(".bd-header, .bd-sidebar, .bd-header-article, .prev-next-area, footer, .skip-link")) part.lang = "en";
    for (const picture of document.querySelectorAll("article .cell_output img, article figure img")) {
      if (picture.closest("a, .interactive")) continue;
      const link = Object.assign(document.createElement("a"), { className: "whole-picture", href: picture.src, title: "Open the picture by itself" });
      picture.replaceWith(link);
      link.append(picture);
    }
    for (const code of document.querySelectorAll("article :is(td, th) code .pre")) breakable(code.firstChild);
    document.querySelectorAll("table.dataframe :is(td, th)").forEach(keepWords);
    const start = () => {
      document.querySelectorAll("article span.math").forEach(keepTogether);
      measure();
      watch(oncePerFrame(measure));
      document.documentElement.dataset.settled = "yes"; // for tests: nothing moves from here on
    };
    window.addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(start));
  });
})();
