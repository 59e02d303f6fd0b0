"""The style of a page, its one script, and the policy that forbids everything else."""

from __future__ import annotations

import base64
import hashlib

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  const letters = new Intl.Collator("en", {numeric: true});
  const order = (index, sign) => (a, b) => {
    const [x, y] = [a.cells[index], b.cells[index]].map(
      (cell) => cell.hasAttribute("data-sort") ? Number(cell.dataset.sort) : cell.textContent);
    if (typeof x === "number" && typeof y === "number") return sign * (x - y);
    if (typeof x !== typeof y) return typeof x === "number" ? -1 : 1;
    return sign * letters.compare(x, y);
  };
  headings.forEach((heading, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    heading.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const up = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", up ? "ascending" : "descending");
      body.append(...[...body.rows].sort(order(index, up ? 1 : -1)));
    });
  });
}
"""
"""Makes the headings of tables buttons. Rows without a number come last either way."""

POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    f"{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'; base-uri 'none'; form-action 'none'"
)

STYLE = """
:root {
  color-scheme: light;
  --paper: #ffffff; --card: #f5f7fa; --rule: #dde2e9; --ink: #18202b; --quiet: #566173; --link: #1c5fa8;
  --live: #2f6fb2; --grace: #86b4de; --unreferenced: #d97a1e; --quarantined: #8a5fb5; --uploads: #2f9486;
  --other: #98a1ae; --free: #e4e8ee; --bar: #d9e7f5;
  --unique-0: #e0ebf6; --unique-1: #b9d4ed; --unique-2: #86b5e0; --unique-3: #3573b3; --unique-4: #1d5190;
  --on-light: #14202e; --on-dark: #ffffff; --gathered: #dfe3e8; --on-gathered: #2a3442;
  --critical: #a3123a; --error: #b3261e; --warning: #8a5200; --info: #44566c; --band: #f3dcc0; --limit: #b3261e;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --paper: #11161d; --card: #19202a; --rule: #2c3644; --ink: #e6ebf2; --quiet: #9ba8b9; --link: #82b7ee;
    --live: #4a8fd6; --grace: #2d5f93; --unreferenced: #e8953f; --quarantined: #a985d1; --uploads: #45b09f;
    --other: #667284; --free: #29323f; --bar: #20344a;
    --unique-0: #1d2c3d; --unique-1: #24425f; --unique-2: #2d5f92; --unique-3: #5a9ad8; --unique-4: #9cc8f3;
    --on-light: #eaf1f9; --on-dark: #0c1420; --gathered: #2a323d; --on-gathered: #ccd5e0;
    --critical: #ff8fab; --error: #ff9a8f; --warning: #f0b35c; --info: #a9b8ca; --band: #4a3720; --limit: #ff9a8f;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 75rem; background: var(--paper); color: var(--ink);
  font: 0.9375rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
code { font: 0.875em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
a { color: var(--link); text-underline-offset: 0.15em; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: 2px; }
p { margin: 0; }
ul, dl, dd { margin: 0; padding: 0; list-style: none; }
.kind {
  color: var(--quiet); font-size: 0.75rem; font-weight: 600; letter-spacing: 0.09em; text-transform: uppercase;
}
h1 {
  margin: 0.25rem 0 0.5rem; font-size: 1.75rem; line-height: 1.2; letter-spacing: -0.015em;
  overflow-wrap: anywhere;
}
h2 { margin: 0 0 0.5rem; font-size: 1.1875rem; line-height: 1.3; letter-spacing: -0.005em; }
h3 { margin: 1.5rem 0 0.5rem; font-size: 0.9375rem; }
.lede { max-width: 46rem; font-size: 1.0625rem; }
.size { white-space: nowrap; }
.particulars { display: flex; flex-wrap: wrap; gap: 0.125rem 1.25rem; margin-top: 0.75rem; color: var(--quiet); }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: 1px; margin: 1.75rem 0 1.25rem;
  border: 1px solid var(--rule); border-radius: 8px; background: var(--card); overflow: hidden;
}
.figures > div { padding: 0.875rem 1rem 0.75rem; box-shadow: 0 0 0 1px var(--rule); }
.figures dt { color: var(--quiet); font-size: 0.8125rem; }
.figures .value {
  font-size: 1.25rem; font-weight: 600; line-height: 1.35; letter-spacing: -0.015em; white-space: nowrap;
}
.figures .note { color: var(--quiet); font-size: 0.8125rem; line-height: 1.35; }
.figures .main { box-shadow: inset 0 3px var(--live), 0 0 0 1px var(--rule); }
.figures .freed { box-shadow: inset 0 3px var(--unreferenced), 0 0 0 1px var(--rule); }
.figures .spared { box-shadow: inset 0 3px var(--uploads), 0 0 0 1px var(--rule); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.25rem 1.125rem; font-size: 0.875rem; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
section { margin-top: 2.25rem; padding-top: 1.5rem; border-top: 1px solid var(--rule); scroll-margin-top: 0.5rem; }
.explained { max-width: 50rem; margin: 0 0 0.875rem; color: var(--quiet); font-size: 0.875rem; }
.explained b { color: var(--ink); font-weight: 600; }
.scroll + .explained, .legend + .explained, ul + .explained { margin: 0.75rem 0 0; }
svg { display: block; width: 100%; }
svg.bar { height: 2.25rem; border-radius: 4px; }
svg.bar rect { stroke: var(--paper); stroke-width: 1px; vector-effect: non-scaling-stroke; }
.drawn > div { display: none; }
.drawn > .wide { display: block; }
@media (max-width: 60rem) { .drawn > .wide { display: none; } .drawn > .medium { display: block; } }
@media (max-width: 35rem) { .drawn > .medium { display: none; } .drawn > .narrow { display: block; } }
.live { fill: var(--live); background: var(--live); }
.grace { fill: var(--grace); background: var(--grace); }
.unreferenced { fill: var(--unreferenced); background: var(--unreferenced); }
.quarantined { fill: var(--quarantined); background: var(--quarantined); }
.uploads, .saved { fill: var(--uploads); background: var(--uploads); }
.other { fill: var(--other); background: var(--other); }
.free { fill: var(--free); background: var(--free); }
.band { fill: var(--band); background: var(--band); }
.unique-0, .unknown { fill: var(--unique-0); background: var(--unique-0); }
.unique-1 { fill: var(--unique-1); background: var(--unique-1); }
.unique-2 { fill: var(--unique-2); background: var(--unique-2); }
.unique-3 { fill: var(--unique-3); background: var(--unique-3); }
.unique-4 { fill: var(--unique-4); background: var(--unique-4); }
.gathered { fill: var(--gathered); background: var(--gathered); }
.swatch {
  display: inline-block; width: 0.75rem; height: 0.75rem; border-radius: 2px; box-shadow: inset 0 0 0 1px #8886;
}
.legend {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(14.5rem, 1fr)); gap: 0.625rem 1.5rem; margin-top: 1rem;
}
.legend li { position: relative; padding-left: 1.375rem; }
.legend .swatch { position: absolute; left: 0; top: 0.3125rem; }
.legend .label { margin-right: 0.25rem; }
.legend b { font-weight: 600; }
.legend small { display: block; color: var(--quiet); font-size: 0.8125rem; line-height: 1.35; }
.share { color: var(--quiet); font-weight: 400; white-space: nowrap; }
.shades {
  display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin-top: 0.75rem; color: var(--quiet);
  font-size: 0.8125rem;
}
.shades .swatch { margin-right: 0.375rem; vertical-align: -0.0625rem; }
.stroke {
  display: inline-block; width: 1.25rem; margin-right: 0.375rem; border-top: 2px solid var(--live);
  vertical-align: 0.25rem;
}
.stroke.expected { border-top: 2px dashed var(--unreferenced); }
svg text { font-size: 12px; fill: var(--ink); pointer-events: none; }
.group { fill: var(--card); stroke: var(--rule); }
svg .heading { font-weight: 600; }
svg .aside, svg .axis { fill: var(--quiet); }
.on.unique-0, .on.unique-1, .on.unique-2, .on.unknown { fill: var(--on-light); }
.on.unique-3, .on.unique-4 { fill: var(--on-dark); }
.on.gathered { fill: var(--on-gathered); }
.treemap rect:not(.group):hover { stroke: var(--ink); stroke-width: 2px; }
.grid { stroke: var(--rule); }
.axis-mark { stroke: var(--quiet); }
.measured { fill: none; stroke: var(--live); stroke-width: 2.25px; stroke-linejoin: round; }
.expected { fill: none; stroke: var(--unreferenced); stroke-width: 2px; stroke-dasharray: 6 4; }
.dot { fill: var(--paper); stroke: var(--live); stroke-width: 1.75px; }
.limit { stroke: var(--limit); stroke-width: 1.5px; }
svg .limit-label { fill: var(--limit); font-weight: 600; }
.growth p { margin-bottom: 1rem; }
#growth .drawn { margin-top: 1rem; }
.scroll { max-width: 100%; overflow-x: auto; border: 1px solid var(--rule); border-radius: 8px; }
.long { max-height: min(80vh, 60rem); overflow-y: auto; }
table { width: 100%; border-collapse: separate; border-spacing: 0; font-size: 0.875rem; line-height: 1.4; }
caption { padding: 0.625rem 0.875rem 0.375rem; text-align: left; font-weight: 600; }
th, td { padding: 0.3125rem 0.5rem; text-align: left; vertical-align: top; }
td, tbody code { white-space: nowrap; }
td[data-sort], th.n, td.n { text-align: right; }
thead th {
  position: sticky; top: 0; z-index: 2; padding-block: 0.5rem; background: var(--paper); color: var(--quiet);
  border-bottom: 1px solid var(--rule); font-weight: 600; white-space: nowrap;
}
th:first-child { padding-left: 0.875rem; }
th:last-child, td:last-child { padding-right: 0.875rem; }
tbody th { min-width: 10rem; font-weight: 500; overflow-wrap: anywhere; }
tbody tr:nth-child(even) > * { background-color: var(--card); }
tbody tr:hover > * { background-color: var(--bar); }
td.names { min-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
td.b { background: linear-gradient(var(--bar), var(--bar)) no-repeat left 0 center / var(--p) 70%; }
tr:hover td.b { background-image: linear-gradient(var(--free), var(--free)); }
thead button {
  display: inline-block; margin: -0.25rem; padding: 0.25rem; border: 0; background: none; color: inherit; font: inherit;
  cursor: pointer;
}
thead button:hover, [aria-sort=ascending] button, [aria-sort=descending] button { color: var(--ink); }
thead button::after { content: "\\2195"; display: inline-block; width: 0.75em; margin-left: 0.125em; opacity: 0.55; }
[aria-sort=ascending] button::after { content: "\\2191"; opacity: 1; }
[aria-sort=descending] button::after { content: "\\2193"; opacity: 1; }
.findings li { padding: 0.625rem 0 0.625rem 0.875rem; border-left: 3px solid var(--tone); }
.findings li + li { margin-top: 0.5rem; }
.findings .critical { --tone: var(--critical); }
.findings .error { --tone: var(--error); }
.findings .warning { --tone: var(--warning); }
.findings .info { --tone: var(--info); }
.findings p { max-width: 60rem; overflow-wrap: anywhere; }
.findings .subject { font-weight: 600; }
.findings code { color: var(--quiet); }
.findings .repair { color: var(--quiet); }
.findings .repair::before { content: "\\2192\\00a0"; }
.severity {
  margin-right: 0.375rem; color: var(--tone); font-size: 0.75rem; font-weight: 700; letter-spacing: 0.05em;
  text-transform: uppercase;
}
.strays li { overflow-wrap: anywhere; }
.totals { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 0 2rem; }
.totals div {
  display: flex; justify-content: space-between; gap: 1rem; padding: 0.3125rem 0;
  border-bottom: 1px solid var(--rule);
}
.totals dt { color: var(--quiet); }
footer { margin-top: 3rem; color: var(--quiet); font-size: 0.8125rem; }
@media (max-width: 35rem) {
  body { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.375rem; }
  .figures { grid-template-columns: 1fr 1fr; }
  .figures > div:last-child:nth-child(odd) { grid-column: span 2; }
  .figures .value { font-size: 1.1875rem; }
  tbody th { position: sticky; left: 0; z-index: 1; max-width: 11rem; background: var(--paper); }
  th, td { padding-inline: 0.625rem; }
  td.names { white-space: nowrap; }
  td.names wbr { display: none; }
}
@media print {
  @page { margin: 14mm; }
  html { font-size: 10px; }
  body { padding: 0; max-width: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, thead button::after { display: none; }
  section { margin-top: 1.25rem; padding-top: 0.875rem; }
  .scroll, .long { max-height: none; overflow: visible; border: 0; }
  thead { display: table-header-group; }
  thead th { position: static; }
  th, td { padding: 0.125rem 0.375rem; }
  table { font-size: 0.8125rem; }
  td.names, tbody th { min-width: 0; }
  tr, .findings li, svg, .figures > div { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
