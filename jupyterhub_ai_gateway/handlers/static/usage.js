// The page of one's own use: sums, limits, days, and the latest requests explained.

import { ask, at, compact, daysBetween, h, limitCard, money, note, requestTable, stackedBars, sums, SUMS, table, whole } from "./parts.js";

const day = (offset) => new Date(Date.now() + offset * 86_400_000).toISOString().slice(0, 10);

function showTotals(total) {
  const pairs = [
    ["Requests", total ? whole.format(total.requests) : "0"],
    ["Input tokens", total ? compact.format(total.input_tokens) : "0"],
    ["Output tokens", total ? compact.format(total.output_tokens) : "0"],
    ["Cost", total ? money(total.cost_usd) : "$0.00"],
  ];
  if (total?.unpriced) pairs.push(["Without a price", whole.format(total.unpriced)]);
  at("totals").replaceChildren(...pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function showLimits(limits) {
  const shown = (limits ?? []).filter((limit) => !limit.shadow);
  at("limits").hidden = !shown.length;
  at("limits").querySelector(".limits").replaceChildren(...shown.map(limitCard));
}

function showModels(rows, hasUsers) {
  const heads = [...(hasUsers ? [["Who"]] : []), ["Model"], ["Group that pays"], ...SUMS];
  const lines = rows.map((row) => [...(hasUsers ? [[row.user]] : []), [row.endpoint], [row.group ?? "—"], ...sums(row)]);
  at("by-model").replaceChildren(lines.length ? table(heads, lines, "Use by model and group") : note("Nothing yet."));
}

let asked = 0;

async function show() {
  const mine = ++asked;
  const status = at("status");
  status.hidden = false;
  status.textContent = "Asking …";
  const who = at("user")?.value.trim() ?? "";
  const whose = who ? `&user=${encodeURIComponent(who)}` : "";
  const [since, until] = [day(-Number(at("days").value)), day(0)];
  const time = `since=${since}&until=${until}${whose}`;
  const by = who === "*" ? "user,endpoint,group" : "endpoint,group";
  try {
    const [days, models, latest] = await Promise.all([
      ask(`usage?by=day,endpoint&${time}`),
      ask(`usage?by=${by}&order=cost_usd&limit=200&${time}`),
      ask(`requests?limit=20${whose}`),
    ]);
    if (mine !== asked) return;
    showTotals(days.total);
    showLimits(days.limits);
    at("found").hidden = false;
    stackedBars(at("chart"), { rows: days.usage, days: daysBetween(since, until), by: "endpoint", measure: at("measure").value });
    const lines = [...days.usage].reverse().map((row) => [[row.day], [row.endpoint], ...sums(row)]);
    at("by-day").replaceChildren(lines.length ? table([["Day"], ["Model"], ...SUMS], lines, "Use by day") : note("Nothing yet."));
    showModels(models.usage, who === "*");
    at("requests").replaceChildren(requestTable(latest.requests, who === "*"));
    status.hidden = true;
  } catch (error) {
    if (mine === asked) status.textContent = error.message;
  }
}

at("choice").addEventListener("submit", (event) => {
  event.preventDefault();
  show();
});
for (const id of ["days", "measure"]) at(id).addEventListener("change", show);
show();
