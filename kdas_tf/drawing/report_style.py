"""How the page about an evaluation looks: on a screen, on a phone, in the dark and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b646e; --paper: #fff; --line: #d9dee3; --box: #f4f6f8;
  --right: #007a5a; --wrong: #c8380a; --warn: #fff4dc; --warn-line: #c47f00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #a3adb7; --paper: #15181b; --line: #383f46; --box: #1f2429;
    --right: #37c99f; --wrong: #ff7a4d; --warn: #3a2e12; --warn-line: #e0a63a; }
  .curve img { filter: invert(0.91) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 3rem; max-width: 62rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 0.4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; }
h3 { font-size: 1rem; margin: 0 0 0.5rem; }
p { margin: 0.4rem 0; }
.soft, figcaption { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 0.35rem 0.7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; white-space: normal; overflow-wrap: anywhere;
  min-width: 7rem; }
th { font-weight: 600; }
tbody th { font-weight: 400; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; margin: 0.6rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; margin: 0.4rem 0; }
.warning { background: var(--warn); border-left: 4px solid var(--warn-line); padding: 0.5rem 0.8rem; margin: 0.6rem 0;
  overflow-wrap: anywhere; }
.curves { display: flex; flex-wrap: wrap; gap: 1rem; }
.curve { flex: 1 1 20rem; max-width: 30rem; margin: 0; }
.curve img { width: 100%; height: auto; display: block; }
.list { display: grid; grid-template-columns: 6rem 1fr; gap: 0 1rem; margin: 0 0 1.4rem; break-inside: avoid; }
.list h3 { grid-column: 1 / -1; }
.nearest { display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: 0.5rem; list-style: none; margin: 0;
  padding: 0; }
.shown { margin: 0; font-size: 0.72rem; line-height: 1.35; }
.shown img { display: block; width: 100%; aspect-ratio: 1 / 2; object-fit: contain; background: var(--box);
  border: 3px solid var(--soft); }
.right img { border-color: var(--right); }
.wrong img { border: 3px dashed var(--wrong); }
.shown figcaption { margin-top: 0.15rem; }
.mark { font-weight: 700; font-size: 0.85rem; }
.right .mark { color: var(--right); }
.wrong .mark { color: var(--wrong); }
@media (max-width: 40rem) {
  table { font-size: 0.75rem; }
  th, td { padding: 0.3rem 0.2rem; }
  thead th { white-space: normal; vertical-align: bottom; }
  th:first-child, td:first-child { min-width: 4.5rem; }
  .list { grid-template-columns: 5rem 1fr; gap: 0 0.7rem; }
  .nearest { grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 0.4rem; }
  .shown { font-size: 0.68rem; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  h2 { break-after: avoid; }
  .wide { break-inside: avoid; }
}
"""
