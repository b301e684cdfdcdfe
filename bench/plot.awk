# plot.awk: reads results.md, writes its main figures as SVG to standard output.

function cell(i,  text) { text = $i; gsub(/^ +| +$/, "", text); return text }
function escaped(text) { gsub(/&/, "\\&amp;", text); gsub(/</, "\\&lt;", text); return text }
function add(panel, label, value, group) {
  if (value + 0 <= 0) return
  n = ++size[panel]; labels[panel, n] = label; values[panel, n] = value + 0; groups[panel, n] = group
}
function write(x, y, text, more) { printf "<text x=\"%.1f\" y=\"%.1f\"%s>%s</text>\n", x, y, more, escaped(text) }
function log10(v) { return log(v) / log(10) }

# Bars to the right, on a scale from `low` (its logarithm, when above 0); `limit` is a line, if any.
function panel(name, title, low, limit, limit_text,  i, top, most, width, at) {
  if (!size[name]) return
  write(20, y += 34, title, " class=\"title\"")
  most = limit
  for (i = 1; i <= size[name]; i++) if (values[name, i] > most) most = values[name, i]
  top = y + 8
  for (i = 1; i <= size[name]; i++) {
    y += 22
    width = low ? log10(values[name, i] / low) / log10(most / low) : values[name, i] / most
    if (width < 0.003) width = 0.003
    write(LEFT - 8, y + 5, labels[name, i], " text-anchor=\"end\"")
    printf "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"15\" class=\"%s\"/>\n", LEFT, y - 7, width * WIDTH, groups[name, i]
    write(LEFT + width * WIDTH + 6, y + 5, values[name, i] >= 1000 ? sprintf("%d", values[name, i]) : values[name, i], "")
  }
  if (limit) {
    at = LEFT + WIDTH * (low ? log10(limit / low) / log10(most / low) : limit / most)
    printf "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", at, at, top, y + 12
    write(at + 4, y + 24, limit_text, " class=\"limit\" text-anchor=\"middle\"")
    y += 14
  }
  y += 12
}

# A bar of six pieces each, and a point for each round, up to SCALE.
function strips(name, title,  i, j, k, n, most, at, long, point, legend) {
  if (!size[name]) return
  write(20, y += 34, title, " class=\"title\"")
  split("the old server stops|repmgr, until it promotes|PostgreSQL promotes|until most databases name it|check_delay|primgr and HAProxy", legend, "|")
  for (j = 1; j <= 6; j++) {
    if (j % 3 == 1) y += 20
    at = 20 + 250 * ((j - 1) % 3)
    printf "<rect x=\"%d\" y=\"%.1f\" width=\"12\" height=\"12\" class=\"%s\"/>\n", at, y - 10, PIECE[j]
    write(at + 18, y, legend[j], "")
  }
  printf "<circle cx=\"%d\" cy=\"%.1f\" r=\"2.5\"/>\n", 770, y - 4
  write(780, y, "a round", "")
  for (i = 1; i <= size[name]; i++) if (most < values[name, i]) most = values[name, i]
  if (most > SCALE) most = SCALE
  for (i = 1; i <= size[name]; i++) {
    y += 22
    write(LEFT - 8, y + 5, labels[name, i], " text-anchor=\"end\"")
    at = LEFT
    for (j = 1; j <= 6; j++) {
      long = pieces[i, j] / most * WIDTH
      if (long > LEFT + WIDTH - at) long = LEFT + WIDTH - at
      printf "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"15\" class=\"%s\"/>\n", at, y - 7, long, PIECE[j]
      at += long
    }
    n = split(rounds[labels[name, i]], point, " ")
    for (k = 1; k <= n; k++) if (point[k] <= most) printf "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"/>\n", LEFT + point[k] / most * WIDTH, y + 0.5
    write(LEFT + WIDTH + 10, y + 5, sprintf("%.2f", values[name, i]) " at most", "")
  }
}

BEGIN { FS = "|"; LEFT = 350; WIDTH = 400; SCALE = 15; split("other bad stop follow wait ours", PIECE, " ") }
/^## / { split($0, word, " "); part = word[2] }
part == "http" && NF == 8 && cell(4) ~ /^[0-9]/ {
  add("http", cell(2) ", " cell(3), cell(4), cell(3) == "primgr" ? "ours" : "other")
}
part == "peers" && NF == 11 && cell(2) ~ /^[0-9]+, / {
  split(cell(2), word, ",")
  add("peers", word[1] " nodes," word[2] ": Primary", cell(3), cell(3) + 0 > 1200 ? "bad" : "ours")
  add("peers", word[1] " nodes, " cell(7) " dead: Unknown", cell(8), cell(8) + 0 > 1200 ? "bad" : "other")
}
part == "hold" && NF == 12 && cell(3) ~ /^[0-9]/ {
  add("hold", cell(2) (cell(4) + 0 ? " (" cell(4) " of " cell(3) " failed)" : ""), cell(6), cell(4) + 0 || cell(6) > 50 ? "bad" : "ours")
}
part == "outage" { if (cell(2) == "reads") reads = NF == 10; else if (cell(2) == "writes") reads = 0 }
part == "outage" && NF == 10 && reads && cell(3) ~ /^[0-9]/ {
  longest = cell(5); gsub(/.*\(|\)/, "", longest)
  add("reads", cell(2), longest, longest > 0.5 ? "bad" : "ours")
}
part == "outage" && NF == 12 && cell(3) ~ /^[0-9]/ {
  add("outage", cell(2), cell(5), "")
  for (i = 1; i <= 6; i++) pieces[size["outage"], i] = cell(5 + i)
}
part == "outage" && NF == 4 && cell(3) ~ /^[0-9]/ { rounds[cell(2)] = cell(3) }
END {
  print "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"860\" height=\"" 22 * (size["http"] + size["peers"] + size["hold"] + size["outage"] + size["reads"]) + 190 + (size["outage"] ? 86 : 0) + (size["reads"] ? 74 : 0) "\" font-family=\"sans-serif\" font-size=\"12\">"
  print "<style>.title{font-size:14px;font-weight:bold}.ours{fill:#336791}.other{fill:#a9b8c6}.follow{fill:#d3b86b}.bad{fill:#b3402e}.stop{fill:#7a5c99}.wait{fill:#8fae6b}line{stroke:#b3402e;stroke-dasharray:4 3}.limit{fill:#b3402e}circle{fill:#222;stroke:#fff}</style>"
  print "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
  y = -4
  panel("http", "GET /state, requests a second", 0, 0)
  panel("peers", "From start to a certain answer, ms, while dead peers swallow what they are sent", 0, 1200, "peer_timeout + 200 ms")
  panel("hold", "p99 of a check, ms (log scale), while one other address holds", 0.1, 50, "50 ms")
  strips("outage", "No writes through HAProxy, seconds, while the primary changes: medians of the pieces, up to " SCALE " s")
  y += 14
  panel("reads", "No reads through HAProxy, seconds: many clients, the longest of all rounds (log scale)", 0.01, 0.5, "0.5 s")
  print "</svg>"
}
