// Makes a book of the single page: the article alone, everything open, a first page and contents, and nothing wider than the paper.
// tools/build_pdf.py runs it in the browser, in the medium of print and a window as wide as the text.
(() => {
  const SMALLEST = 5.5; // points: of code, tables and formulas

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const all = (selector) => [...document.querySelectorAll(selector)];

  function strip() {
    const article = document.querySelector("article.bd-article");
    for (const part of article.querySelectorAll("a.headerlink, button, form, script, .interactive-live")) part.remove();
    for (const part of article.querySelectorAll("details")) part.open = true;
    for (const part of article.querySelectorAll(".toggle-hidden")) part.classList.remove("toggle-hidden");
    for (const picture of article.querySelectorAll("a.whole-picture")) picture.replaceWith(...picture.childNodes); // leads to a file
    for (const link of article.querySelectorAll("a[href]"))
      if (!/^(#|https?:|mailto:)/.test(link.getAttribute("href"))) link.replaceWith(...link.childNodes);
    // A section may begin at the end of a page whose next one has its heading: links lead to the heading.
    for (const heading of article.querySelectorAll("section[id] > :is(h1, h2, h3, h4, h5, h6):first-of-type")) {
      if (heading.id) continue;
      heading.id = heading.parentElement.id;
      heading.parentElement.removeAttribute("id");
    }
    for (const start of article.querySelectorAll('span[id^="document-"]')) {
      let next = start.nextElementSibling;
      while (!next.matches("section")) next = next.nextElementSibling;
      next.querySelector("h1, h2, h3").prepend(start);
    }
    document.body.replaceChildren(make("main", {}, article));
    for (const title of article.querySelectorAll("p.part-title")) {
      let next = title.nextElementSibling;
      while (!next.matches("section")) next = next.nextElementSibling;
      next.prepend(title);
    }
    document.body.removeAttribute("class");
    document.documentElement.dataset.theme = "light";
    return article;
  }

  // A heading's words, without the formulas' second copy for those who have them read to them.
  function words(heading) {
    const copy = heading.cloneNode(true);
    for (const part of copy.querySelectorAll("mjx-assistive-mml")) part.remove();
    return copy;
  }

  function contents(article, title, version) {
    const list = make("ol");
    for (const heading of article.querySelectorAll("h1, h2, h3, p.part-title")) {
      if (heading.matches("p.part-title")) list.append(make("li", { className: "part" }, heading.textContent));
      else list.append(entry(heading));
    }
    const first = make("section", { className: "print-title" }, make("h1", { textContent: title }), make("p", { textContent: version }));
    const table = make("section", { className: "print-contents", id: "contents" }, make("h1", { textContent: "Contents" }), list);
    article.prepend(first, table);
  }

  function entry(heading) {
    const link = make("a", { href: `#${heading.id}` });
    link.append(...words(heading).childNodes);
    return make("li", { className: `level-${heading.tagName[1]}` }, link, make("i"));
  }

  const points = (element) => (parseFloat(getComputedStyle(element).fontSize) * 72) / 96;

  // The widest that stands in an element, over the room there is for it.
  function excess(element) {
    const room = document.body.getBoundingClientRect().right - element.getBoundingClientRect().left;
    return element.scrollWidth / Math.min(room, element.parentElement.clientWidth || room);
  }

  function fit(element) {
    for (let round = 0; round < 8; round++) {
      const ratio = excess(element);
      if (ratio <= 1.0005) return;
      const size = Math.max((points(element) / ratio) * 0.99, SMALLEST);
      element.style.setProperty("font-size", `${size}pt`, "important");
      if (size === SMALLEST) break;
    }
    if (element.matches("pre") && excess(element) > 1.0005) element.classList.add("print-folds");
  }

  // What reaches out of the text, or is cut by a box that a reader of paper cannot scroll.
  function tooWide() {
    const found = [], right = document.body.getBoundingClientRect().right + 1;
    const said = (e) => `${e.tagName.toLowerCase()}.${e.className} ${(e.textContent || e.src || "").trim().slice(0, 60)}`;
    for (const e of all("article *")) {
      if (e.closest("mjx-assistive-mml, mjx-math, svg") || !e.getClientRects().length) continue;
      const box = e.getBoundingClientRect();
      if (box.width && box.right > right) found.push(`${Math.round(box.right - right)} px beyond the text: ${said(e)}`);
      const style = getComputedStyle(e);
      if (style.display !== "inline" && style.overflowX !== "visible" && e.scrollWidth > e.clientWidth + 1)
        found.push(`cut by ${e.scrollWidth - e.clientWidth} px: ${said(e)}`);
    }
    return found;
  }

  function problems() {
    const unset = all("article .math").filter((formula) => !formula.querySelector("mjx-container"));
    const missing = all("article img").filter((picture) => !picture.complete || !picture.naturalWidth);
    return [
      ...tooWide(),
      ...unset.map((formula) => `not set: ${formula.textContent.slice(0, 60)}`),
      ...missing.map((picture) => `no picture: ${picture.src}`),
    ];
  }

  // Each chapter's name stands above its pages.
  function name(sections) {
    const text = (section) => JSON.stringify(words(section.querySelector("h1")).textContent.replace(/\s+/g, " ").trim());
    const rule = (section, i) => `@page chapter-${i} { @top-right { content: ${text(section)}; font: 9pt sans-serif; color: #444; } }`;
    sections.forEach((section, i) => (section.style.page = `chapter-${i}`));
    document.head.append(make("style", { textContent: sections.map(rule).join("\n") }));
  }

  window.Print = {
    prepare(title, version) {
      const article = strip();
      name(all("main > article > section"));
      contents(article, title, version);
    },
    fit: () => all("article :is(pre, table, div.math mjx-container, span.math.is-wide mjx-container)").forEach(fit),
    problems,
  };
})();
