// A bar above the ledger: a box for each verdict, and a field for words. Without scripts the whole table is there.
document.addEventListener("DOMContentLoaded", () => {
  const table = document.querySelector("table.ledger-table:not(.ledger-chinese)");
  if (!table) return;
  const rows = [...table.tBodies[0].rows].map((row) => ({
    row,
    verdict: row.querySelector(".ledger-badge").textContent.trim(),
    words: row.textContent.toLowerCase(),
  }));
  const bar = document.createElement("form");
  bar.className = "ledger-filter";
  bar.setAttribute("role", "search");
  bar.setAttribute("aria-label", "Filter the claims");
  bar.addEventListener("submit", (event) => event.preventDefault());

  const boxes = [...new Set(rows.map((entry) => entry.verdict))].map((verdict) => {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.value = verdict;
    const badge = rows.find((entry) => entry.verdict === verdict).row.querySelector(".ledger-badge").cloneNode(true);
    badge.append(` (${rows.filter((entry) => entry.verdict === verdict).length})`);
    label.append(box, " ", badge);
    bar.append(label);
    return box;
  });

  const field = document.createElement("input");
  field.type = "search";
  field.placeholder = "words in a claim";
  field.setAttribute("aria-label", "Words in a claim");
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  bar.append(field, count);

  const show = () => {
    const chosen = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const entry of rows) {
      const fits = chosen.has(entry.verdict) && wanted.every((word) => entry.words.includes(word));
      entry.row.hidden = !fits;
      shown += fits;
    }
    count.textContent = `${shown} of ${rows.length} claims`;
  };
  bar.addEventListener("input", show);
  show();
  (table.closest(".pst-scrollable-table-container") || table).before(bar);
});
