/* The parts of the page. */

const stageColumns = (history) => [
  plain("Stage", (row) => row.stage),
  number("Refused /s", (row) => rate(row.refused)),
  spark("Last 2 min", (row) => history[row.stage] || [], (row, most) =>
    most ? `${row.stage}: up to ${rate(most)} refused per second in the last two minutes` : `${row.stage}: nothing refused in the last two minutes`),
  plain("Reason", (row) => Object.keys(row.reasons).map(words).join(", ") || "–"),
  plain("Mode", (row) => {
    const mode = row.mode === "shadow" ? `shadow, would refuse ${rate(row.shadow)}/s` : row.mode;
    return row.mode === row.policy ? mode : `${mode} (by an operator)`;
  }),
];

/* Here much is good: the bar has no heat. */
const good = (label, parts) => ({
  label,
  kind: "wide-cell",
  paint(cell, row) {
    const [part, all] = parts(row);
    bar(cell, all ? (100 * part) / all : 0, share(part, all), "cold");
  },
});
const TIER = [
  plain("Tier", (row) => row.tier),
  number("Asked /s", (row) => rate(row.per_s)),
  good("Admitted", (row) => [row.allowed, row.allowed + row.refused]),
  good("Within objective", (row) => [row.good, row.events]),
];

function signals(found) {
  const node = at("signals");
  while (node.children.length > found.length) node.lastChild.remove();
  found.forEach(([signal, value], n) => {
    if (!node.children[n]) {
      const made = child(node, "div");
      child(made, "dt");
      child(made, "dd");
    }
    const [label, cell] = node.children[n].children;
    put(label, words(signal));
    bar(cell, value, score(value), heat(value));
  });
}

const passes = (shares) => Object.entries(shares).map(([tier, part]) => [`${tier} ${share(part, 1)}`, part < 0.995 ? "warm" : "cold"]);
const UPSTREAM = [
  name("Upstream", (row) => row.name),
  meter("Score", (row) => row.pressure, (row) => score(row.pressure)),
  chips("Signals", (row) => {
    const found = Object.entries(row.signals).map(([signal, value]) => [`${words(signal)} ${score(value)}`, heat(value)]);
    return row.is_blind ? [["blind: the log is silent", "warm"], ...found] : found.length ? found : [["none", "cold"]];
  }),
  number("Offered", (row) => rate(row.offered)),
  number("Admitted", (row) => rate(row.admitted)),
  number("Completed", (row) => rate(row.completed)),
  number("Credit", (row) => (row.credit === null ? "all pass" : rate(row.credit))),
  number("In flight", (row) => count(row.inflight)),
  chips("Passing", (row) => passes(row.tier_share)),
];

const TENANT = [
  name("Tenant", (row) => row.name),
  plain("Tier", (row) => row.tier),
  name("Plan", (row) => row.plan),
  number("Asked /s", (row) => rate(row.rate)),
  {
    ...number("Refused /s", (row) => (row.refused === null ? "–" : rate(row.refused))),
    paint(cell, row) { put(cell, row.refused === null ? "–" : rate(row.refused)); cell.classList.toggle("hot", rate(row.refused || 0) !== "0"); },
  },
  meter("Used", (row) => (row.limit ? (100 * (row.used || 0)) / row.limit : row.limit === 0 ? 100 : 0), (row) =>
    row.limit === null ? "unlimited" : `${row.used === null ? "?" : count(row.used)} / ${count(row.limit)}`, { kind: "wide-cell" }),
  number("Window", (row) => (row.limit === null ? "–" : length(row.window_s))),
];

const BREAKER_STATES = { closed: "ok", open: "critical", half_open: "warning" };
const BREAKER = [
  name("Upstream", (row) => row.upstream),
  state("State", (row) => [BREAKER_STATES[row.state] || "warning", words(row.state) + (row.forced === "auto" ? "" : ", forced")]),
  plain("Reason", (row) => (row.state === "closed" && row.forced === "auto" ? "–" : words(row.reason || row.forced))),
  number("Failed", (row) => `${count(row.failed)} of ${count(row.ok + row.failed)}`),
  number("Slow", (row) => count(row.slow)),
  number("Tried", (row) => (row.retry_ms ? "in " + length(Math.ceil(row.retry_ms / 1000)) : row.state === "half_open" ? `${row.permits} of ${row.permits_max} now` : "–")),
];
const BY_ITSELF = { "open half_open": "cooldown is over", "half_open closed": "tries succeeded" };
const why = (row) => (row.forced ? "by an operator" : words(row.reason || BY_ITSELF[`${row.before} ${row.after}`] || "reset"));
const CHANGE = [
  plain("When", (row) => moment(row.at_s)),
  name("Upstream", (row) => row.upstream),
  plain("Change", (row) => `${words(row.before)} → ${words(row.after)}`),
  plain("Reason", (row) => why(row)),
];
const PROCESS = [
  name("Worker", (row) => row.name),
  state("State", (row) => (row.is_draining ? ["warning", "draining"] : row.is_ready ? ["ok", "ready"] : ["critical", "not ready"])),
  number("Requests /s", (row) => rate(row.per_s)),
  meter("Pressure", (row) => row.pressure, (row) => score(row.pressure)),
  number("Up", (row) => length(row.uptime_s)),
  number("Restarts", (row) => count(row.restarts)),
  number("Faults", (row) => count(row.faults)),
];

function headline(shown) {
  const { allowed, refused } = shown.traffic;
  const worst = shown.findings.length ? shown.findings[0].severity : "ok";
  mark(at("process"), "severity", worst);
  badge(at("severity"), worst, SEVERITY[worst]);
  at("severity").hidden = shown.findings.length > 0;
  const asked = allowed + refused;
  put(at("headline"), !asked ? "No requests are coming in" : refused < 0.05 ? "All requests are allowed" : `${share(refused, asked)} of requests are refused`);
  const title = (worst === "ok" || worst === "notice" ? "" : SEVERITY[worst] + " – ") + "Sentinel";
  if (document.title !== title) document.title = title;

  const box = at("findings");
  while (box.children.length > shown.findings.length) box.lastChild.remove();
  shown.findings.forEach((finding, n) => {
    if (!box.children[n]) {
      const made = child(box, "li");
      child(made, "span");
      child(made, "a");
    }
    const [label, link] = box.children[n].children;
    badge(label, finding.severity, SEVERITY[finding.severity]);
    const place = "#" + (PLACES[finding.topic] || finding.topic);
    if (link.getAttribute("href") !== place) link.setAttribute("href", place);
    put(link, finding.text);
  });
  const grave = shown.findings.filter(({ severity }) => severity === "warning" || severity === "critical");
  speak(grave.map(({ severity, text }) => `${SEVERITY[severity]}: ${text}`).join(" ") || CALM);
}

function traffic({ traffic: now }) {
  put(at("allowed"), rate(now.allowed));
  put(at("refused"), rate(now.refused));
  put(at("refused-share"), now.refused >= 0.05 ? share(now.refused, now.allowed + now.refused) : "");
  const { ok, over_limit: over, error } = now.limits;
  put(at("limits"), rate(ok + over + error));
  put(at("limits-over"), [over >= 0.05 && `${rate(over)} over`, error >= 0.05 && `${rate(error)} errors`].filter(Boolean).join(", "));
  const { allow, bucket, window, pressure, breaker } = now.history;
  const deny = allow.map((_, n) => bucket[n] + window[n] + pressure[n] + breaker[n]);
  const most = draw(at("graph"), [["allow", allow], ["deny", deny]], 60);
  put(at("graph-max"), most ? `highest ${rate(most)} /s` : "");
  at("graph").setAttribute("aria-label", `Decisions in the last two minutes: at most ${rate(Math.max(0, ...allow))} allowed and ${rate(Math.max(0, ...deny))} refused per second`);
  table("stages", stageColumns(now.history), now.stages, "");
  table("tiers", TIER, now.tiers, "");
}

function pressure({ pressure: now, upstream_count: all }) {
  put(at("score"), score(now.score));
  badge(at("level"), { normal: "ok", elevated: "warning" }[now.level] || "critical", now.level);
  put(at("local"), score(now.local));
  signals(Object.entries(now.local_signals));
  put(at("upstream-count"), all > now.upstreams.length ? `${now.upstreams.length} of ${all}` : "");
  table("upstreams", UPSTREAM, now.upstreams, "No upstream is known yet");
}

function cards(shown) {
  const { store, log, config, processes, names } = shown;
  const isBlind = shown.pressure.upstreams.some((each) => each.is_blind);
  const errors = Object.entries(store.errors).map(([fault, each]) => `${words(fault)} ${rate(each)}/s`);
  list("store-dl", [
    ["State", store.is_up ? "up" : "away", store.is_up ? "ok" : "critical"],
    ["Address", store.url],
    ["Calls", rate(store.calls) + " /s"],
    ["p99 latency", store.p99_ms === null ? "–" : tenth.format(store.p99_ms) + " ms"],
    ["Errors", errors.join(", ") || "none"],
    ["Decided without it", rate(shown.traffic.fallbacks) + " /s"],
  ]);
  list("log-dl", [
    ["State", ...(isBlind ? ["silent", "warning"] : log.streams ? ["heard", "ok"] : log.was_heard ? ["heard elsewhere", "ok"] : ["never heard", "notice"])],
    ["Open streams", count(log.streams)],
    ["Messages", rate(log.messages) + " /s"],
    ["Entries", rate(log.entries) + " /s"],
    ["Unmatched", rate(log.unmatched) + " /s"],
    ["Unreadable", count(log.garbled)],
    ["Every", count(log.flush_ms) + " ms"],
  ]);
  list("config-dl", [
    ["State", config.ok ? "in force" : "files broken", config.ok ? "ok" : "warning"],
    ["Generation", count(config.generation)],
    ["Loaded", moment(config.loaded_at)],
    ["Age", length(shown.at_s - config.loaded_at)],
    ["Policy file", config.file ?? "none: defaults"],
    ...(config.broken_at === null ? [] : [["Broken since", moment(config.broken_at)]]),
  ]);
  const problems = at("problems"), found = config.problems.slice();
  if (config.problem_count > found.length) found.push(`and ${count(config.problem_count - found.length)} more`);
  while (problems.children.length > found.length) problems.lastChild.remove();
  found.forEach((text, n) => put(problems.children[n] || child(problems, "li"), text));
  list("fleet-dl", [
    ["This Sentinel", shown.is_draining ? "draining" : shown.is_ready ? "ready" : "not ready", shown.is_draining ? "warning" : shown.is_ready ? "ok" : "critical"],
    ["Instances", count(shown.instances)],
    ...(names.length ? [["Names", names.join(", ")]] : []),
    ["Workers here", count(processes.length)],
    ["Version", shown.version],
    ["Up", length(Math.max(...processes.map((each) => each.uptime_s)))],
  ]);
  at("processes-s").hidden = processes.length < 2;
  if (processes.length > 1) table("processes", PROCESS, processes, "");
}

function show(shown) {
  const [first] = shown.processes, many = shown.processes.length;
  put(at("who"), `${many > 1 ? `${first.name.split(":")[0]}, ${many} workers` : first.name} · ${shown.version} · up ${length(first.uptime_s)}`);
  headline(shown);
  traffic(shown);
  pressure(shown);
  const more = shown.tenant_count - shown.tenants.length;
  put(at("tenant-count"), more > 0 ? `${shown.tenants.length} of ${count(shown.tenant_count)}` : "");
  table("tenants", TENANT, shown.tenants, "Nobody has asked yet");
  table("breakers", BREAKER, shown.breakers, "No upstream has one");
  table("changes", CHANGE, shown.changes, "None since the start");
  cards(shown);
}
