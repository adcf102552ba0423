// A bar chart as SVG: a line a bar, with name and figure. Readable on a light and on a dark page.

const width = 720;
const [left, right, rowHeight, top] = [170, 70, 34, 44];
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** `rows`: { name, value, label, own }. */
export function bars(title, rows) {
  const largest = Math.max(...rows.map(({ value }) => value));
  const height = top + rows.length * rowHeight + 8;
  const lines = rows.map(({ name, value, label, own }, index) => {
    const y = top + index * rowHeight;
    const length = Math.max(2, Math.round(((width - left - right) * value) / largest));
    return [
      `  <text x="${left - 10}" y="${y + 17}" text-anchor="end"${own ? ' font-weight="bold"' : ""}>${escape(name)}</text>`,
      `  <rect x="${left}" y="${y + 3}" width="${length}" height="20" rx="3" fill="${own ? "#1876d2" : "#9aa3ad"}"/>`,
      `  <text x="${left + length + 8}" y="${y + 17}"${own ? ' font-weight="bold"' : ""}>${escape(label)}</text>`,
    ].join("\n");
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img" font-family="system-ui, sans-serif" font-size="14">
  <title>${escape(title)}</title>
  <style>text { fill: #24292f } @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } }</style>
  <text x="4" y="22" font-size="15">${escape(title)}</text>
${lines.join("\n")}
</svg>
`;
}
