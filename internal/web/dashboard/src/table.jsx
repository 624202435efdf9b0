// A table that can be sorted, is shown page by page, and is walked with the arrow keys from one row's link to the next.
import { useRef } from "preact/hooks";
import { Scroll } from "./parts.jsx";

const pageRows = 100;

const compare = (a, b) => {
  if (typeof a === "string" || typeof b === "string") return String(a ?? "").localeCompare(String(b ?? ""));
  const x = Number.isFinite(a) ? a : -Infinity, y = Number.isFinite(b) ? b : -Infinity; // what is not known is the least
  return x === y ? 0 : x < y ? -1 : 1;
};

export const sorted = (rows, columns, key, descending) => {
  const column = columns.find((c) => c.key === key);
  if (!column?.value) return rows;
  const keyed = rows.map((row) => [column.value(row), row]);
  keyed.sort((a, b) => (descending ? compare(b[0], a[0]) : compare(a[0], b[0])));
  return keyed.map(([, row]) => row);
};

// columns: key, label, cell(row); value(row) makes one sortable; text: it is no number; wide, wider: shown where there is room.
export const Table = ({ caption, columns, rows, rowKey, sort, descending, onSort, page = 1, onPage, empty }) => {
  const body = useRef(null);
  const shown = sort ? sorted(rows, columns, sort, descending) : rows;
  const pages = Math.max(1, Math.ceil(shown.length / pageRows));
  const at = Math.min(Math.max(1, page), pages);
  const first = (at - 1) * pageRows;
  const walk = (event) => {
    const links = [...body.current.querySelectorAll("a[data-row]")];
    const i = links.indexOf(document.activeElement);
    const next = { ArrowDown: i + 1, ArrowUp: i - 1, Home: 0, End: links.length - 1, PageDown: i + 20, PageUp: i - 20 }[event.key];
    if (i < 0 || next === undefined) return;
    event.preventDefault();
    links[Math.min(Math.max(next, 0), links.length - 1)].focus();
  };
  const classes = (c) => `${c.text ? "" : "number"} ${c.wider ? "wider" : c.wide ? "wide" : ""}`.trim() || undefined;
  return (
    <>
      <Scroll label={`${caption}: the table`}>
        <table>
          <caption class="hidden">{caption}</caption>
          <thead>
            <tr>
              {columns.map((c) => (
                <th key={c.key} scope="col" class={classes(c)} aria-sort={sort === c.key ? (descending ? "descending" : "ascending") : undefined}>
                  {c.value && onSort ? (
                    <button type="button" onClick={() => onSort(c.key, sort === c.key ? !descending : !c.text)}>
                      {c.label}<span aria-hidden="true" class="arrow">{sort === c.key ? (descending ? "▼" : "▲") : ""}</span>
                    </button>
                  ) : c.label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody ref={body} onKeyDown={walk}>
            {shown.slice(first, first + pageRows).map((row) => (
              <tr key={rowKey(row)}>
                {columns.map((c) => <td key={c.key} class={classes(c)}>{c.cell(row)}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {shown.length === 0 && empty}
      {pages > 1 && (
        <nav class="pages" aria-label={`Pages of ${caption}`}>
          <button type="button" disabled={at === 1} onClick={() => onPage(at - 1)}>Previous</button>
          <span role="status">{first + 1} to {Math.min(first + pageRows, shown.length)} of {shown.length.toLocaleString("en-US")}</span>
          <button type="button" disabled={at === pages} onClick={() => onPage(at + 1)}>Next</button>
        </nav>
      )}
    </>
  );
};
