for (const button of document.querySelectorAll("table.sorts th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const place = head.cellIndex;
    const falls = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.cells) {
      if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    }
    head.setAttribute("aria-sort", falls ? "descending" : "ascending");
    const body = head.closest("table").tBodies[0];
    const text = (row) => row.cells[place].textContent.trim();
    const compare = (one, other) => {
      const a = text(one), b = text(other);
      const x = parseFloat(a.replaceAll(",", "")), y = parseFloat(b.replaceAll(",", ""));
      if (place === 0 || (isNaN(x) && isNaN(y))) {
        return (falls ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
      }
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return falls ? y - x : x - y;
    };
    body.append(...[...body.rows].sort(compare));
  });
}
// A table whose rows a phone shows as blocks is a table still, for who hears it.
const roles = {
  table: "table", thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell",
  "th[scope=col]": "columnheader", "th[scope=row]": "rowheader",
};
for (const [selector, role] of Object.entries(roles)) {
  for (const part of document.querySelectorAll(`table.wide ${selector}, ${selector}.wide`)) part.setAttribute("role", role);
}
