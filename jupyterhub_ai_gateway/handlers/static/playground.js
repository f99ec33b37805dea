// The playground: a conversation that lives in this page alone. It sends what the code it shows would send.

import { announce, ask, at, BASE_URL, dialog, duration, h, HUB_URL, money, price, send, snippet, stateTag, USER, whole } from "./parts.js";

const MAX_IMAGE_BYTES = 8 * 1024 * 1024;
const turns = []; // {role, content, error?}: content is text, or parts with an image
let models = [];
let image = null; // of the next message: a data URL
let hasLedger = true;
let running = null; // the AbortController of the answer that is on its way
const spent = { cost: 0, isKnown: true, tokens: 0, answers: 0 };

const chosen = () => models.find((model) => model.id === at("model").value);

/** Say whether a model takes images: true, false, or null where nobody says. */
function takesImages(model) {
  const said = [model.capabilities, model.input_modalities, model.modalities?.input, model.modalities].filter(Boolean);
  if (!said.length) return null;
  const names = said.flatMap((each) => (Array.isArray(each) ? each : typeof each === "object" ? Object.entries(each).filter(([, has]) => has).map(([name]) => name) : [each])).map(String);
  return names.some((name) => /^(vision|image|images|image_input|input_image)$/.test(name));
}

function parameters() {
  const found = {};
  for (const name of ["temperature", "top_p", "max_tokens", "seed"]) {
    const field = at(name);
    if (field.value.trim() === "") continue;
    if (!field.checkValidity()) throw new Error(`${field.parentElement.firstChild.textContent.trim()}: ${field.validationMessage}`);
    found[name] = Number(field.value);
  }
  return found;
}

function messages() {
  const system = at("system").value.trim();
  return [...(system ? [{ role: "system", content: system }] : []), ...turns.filter((turn) => !turn.isFault).map(({ role, content }) => ({ role, content }))];
}

const body = () => ({ model: at("model").value, messages: messages(), ...parameters(), stream: true, stream_options: { include_usage: true } });

// ---------------------------------------------------------------- what is shown

function turnOf(role, text = "", picture = null) {
  const box = h("div", { class: "text" }, text);
  const facts = h("p", { class: "facts-line" });
  const element = h("div", { class: `turn ${role}` }, h("span", { class: "offscreen" }, role === "user" ? "You: " : role === "fault" ? "Problem: " : "Model: "),
    picture ? h("img", { src: picture, alt: "The image that you attached" }) : null, box, facts);
  at("empty")?.remove();
  at("log").append(element);
  element.scrollIntoView({ block: "nearest" });
  return { element, box, facts };
}

function showRunning(is) {
  at("stop").hidden = !is;
  at("send").disabled = is;
  at("clear").disabled = is;
  if (is) at("stop").focus();
  else at("message").focus();
}

function showImage() {
  at("attached").hidden = !image;
  at("attached").replaceChildren(...(image ? [h("img", { src: image, alt: "The image for the next message" }),
    h("button", { type: "button", class: "button small", onclick: () => { image = null; at("image").value = ""; showImage(); at("message").focus(); } }, "Remove the image")] : []));
}

function showModel() {
  const model = chosen();
  const images = takesImages(model);
  at("image-label").hidden = images === false;
  if (images === false) { image = null; showImage(); }
  const { price: rates } = model;
  const text = rates && (rates.input_per_mtok || rates.output_per_mtok)
    ? `${price(rates.input_per_mtok)} in, ${price(rates.output_per_mtok)} out, per million tokens` : rates?.per_request ? `${price(rates.per_request)} per request` : rates ? "Free" : "Its price is unknown";
  at("about").replaceChildren(model.state === "ready" ? "" : h("p", { class: "mb-1" }, stateTag(model.state), model.state_text ? ` ${model.state_text}` : ""),
    model.description ? h("p", { class: "mb-1" }, model.description) : "", h("span", {}, `${text}.`),
    images === null ? h("p", { class: "mb-0" }, "Whether it takes images is not known.") : "");
}

function showWhole() {
  at("whole").textContent = spent.answers ? `This conversation: ${whole.format(spent.tokens)} tokens, ${spent.isKnown ? money(spent.cost) : "cost unknown"}.` : "";
}

// ---------------------------------------------------------------- an answer

/** Read server-sent events as they come; yield the data of each. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trim();
  }
}

async function answer() {
  const began = performance.now();
  const view = turnOf("assistant");
  const found = { text: "", usage: null, first: null, id: null };
  running = new AbortController();
  showRunning(true);
  view.facts.textContent = "Waiting …";
  try {
    const headers = { "Content-Type": "application/json", ...(at("payer").value ? { "OpenAI-Project": at("payer").value } : {}) };
    const response = await send("v1/chat/completions", { method: "POST", body: JSON.stringify(body()), signal: running.signal, headers });
    found.id = response.headers.get("x-request-id");
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      throw new Error(problem.detail ?? `The gateway answered ${response.status}.`);
    }
    const instead = response.headers.get("x-ai-gateway-model-substituted");
    found.instead = instead ? `answered by ${instead}, as your budget for ${at("model").value} is used up` : "";
    await read(response, found, view, began);
    finish(found, view, began, "");
  } catch (error) {
    if (error.name === "AbortError") finish(found, view, began, "Stopped by you");
    else fail(error, found, view);
  } finally {
    running = null;
    showRunning(false);
  }
  await account(found, view);
}

async function read(response, found, view, began) {
  for await (const data of events(response)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Error(chunk.error.message ?? "The provider stopped.");
    found.usage = chunk.usage ?? found.usage;
    const delta = chunk.choices?.[0]?.delta ?? {};
    const piece = delta.content ?? delta.refusal ?? "";
    if (!piece) continue;
    found.first ??= performance.now() - began;
    found.text += piece;
    view.box.textContent = found.text;
    view.facts.textContent = "Receiving …";
    if (innerHeight + scrollY > document.body.scrollHeight - 200) view.element.scrollIntoView({ block: "nearest" });
  }
}

function finish(found, view, began, remark) {
  const took = performance.now() - began;
  if (found.text) turns.push({ role: "assistant", content: found.text });
  else if (!remark) view.box.textContent = "(The answer is empty.)";
  found.line = [remark, found.instead, found.first === null ? "" : `first piece after ${duration(found.first)}`, `${duration(took)} in all`].filter(Boolean);
  view.facts.textContent = found.line.join(" · ");
  announce(remark || "The answer is complete.");
}

function fail(error, found, view) {
  if (found.text) turns.push({ role: "assistant", content: found.text });
  else view.element.remove();
  found.line = [];
  const fault = turnOf("fault", error.message);
  fault.element.setAttribute("role", "alert");
}

/** Find a request in the ledger: it is there once it is over for the gateway as well, soon after a stop. */
async function written(id) {
  for (let turn = 0; id && turn < 4; turn += 1) {
    const { requests } = await ask("requests?limit=5").catch(() => ({ requests: null }));
    const row = requests?.find((each) => each.request_id === id);
    if (row || !requests) return row ?? null;
    await new Promise((done) => setTimeout(done, 400 * (turn + 1)));
  }
  return null;
}

/** Ask the ledger what it cost; without a ledger the stream's own count is all. */
async function account(found, view) {
  const row = hasLedger ? await written(found.id) : null;
  const into = row?.input_tokens ?? found.usage?.prompt_tokens;
  const out = row?.output_tokens ?? found.usage?.completion_tokens;
  if (into === undefined && out === undefined && !row) return;
  spent.answers += 1;
  spent.tokens += (into ?? 0) + (out ?? 0);
  if (row?.cost_usd === null || row?.cost_usd === undefined) spent.isKnown &&= Boolean(row && !row.attempts);
  else spent.cost += row.cost_usd;
  const tokens = `${into === null || into === undefined ? "?" : whole.format(into)} tokens in, ${out === null || out === undefined ? "?" : whole.format(out)} out${row?.is_estimated ? " (estimated)" : ""}`;
  if (view.element.isConnected) view.facts.textContent = [tokens, row ? (row.cost_usd === null ? "cost unknown" : money(row.cost_usd)) : "", ...found.line].filter(Boolean).join(" · ");
  showWhole();
}

// ---------------------------------------------------------------- the code

function literal(value, indent = "") {
  if (Array.isArray(value)) return value.length ? `[\n${value.map((each) => `${indent}    ${literal(each, `${indent}    `)},\n`).join("")}${indent}]` : "[]";
  if (value && typeof value === "object") return `{${Object.entries(value).map(([name, each]) => `${JSON.stringify(name)}: ${literal(each, indent)}`).join(", ")}}`;
  if (value === true || value === false) return value ? "True" : "False";
  return value === null ? "None" : JSON.stringify(value);
}

/** Return the Python that asks what was asked last; an image is a file there. */
function code() {
  const pending = at("message").value.trim();
  const all = messages();
  while (all.at(-1)?.role === "assistant") all.pop();
  if (pending) all.push(...(turns.length ? messages().slice(all.length) : []), { role: "user", content: pending });
  if (!all.some((message) => message.role === "user")) all.push({ role: "user", content: "Hello!" });
  let number = 0;
  const files = [];
  const text = literal(all, "    ").replace(/"data:(image\/[a-z]+);base64,[^"]*"/g, (_, kind) => {
    number += 1;
    const name = `image${number}.${kind.split("/")[1]}`;
    files.push(`image${number} = "data:${kind};base64," + base64.b64encode(Path(${JSON.stringify(name)}).read_bytes()).decode()`);
    return `image${number}`;
  });
  const more = Object.entries(parameters()).map(([name, value]) => `    ${name}=${literal(value)},\n`).join("");
  const payer = at("payer").value ? `project=${JSON.stringify(at("payer").value)}` : "";
  return `${files.length ? "import base64\nfrom pathlib import Path\n\n" : ""}from openai import OpenAI\n\n${files.length ? `${files.join("\n")}\n\n` : ""}client = OpenAI(${payer})
stream = client.chat.completions.create(
    model=${JSON.stringify(at("model").value)},
    messages=${text},
${more}    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="")`;
}

function showCode() {
  try {
    dialog("The code", h("p", { class: "note" }, "For a notebook cell in a server of this Hub. Elsewhere OpenAI needs ", h("code", {}, `base_url=${JSON.stringify(BASE_URL)}`),
      " and a token of the ", h("a", { href: `${HUB_URL}token` }, "Hub’s token page"), " as its api_key."), snippet(code(), "code"));
  } catch (error) {
    at("problem").textContent = error.message;
  }
}

// ---------------------------------------------------------------- the page

function submit(event) {
  event?.preventDefault();
  const text = at("message").value.trim();
  at("problem").textContent = "";
  if (running || (!text && !image)) return;
  try {
    parameters();
  } catch (error) {
    at("problem").textContent = error.message;
    return;
  }
  const content = image ? [...(text ? [{ type: "text", text }] : []), { type: "image_url", image_url: { url: image } }] : text;
  turns.push({ role: "user", content });
  turnOf("user", text, image);
  at("message").value = "";
  image = null;
  at("image").value = "";
  showImage();
  answer();
}

function attach() {
  const [file] = at("image").files;
  if (!file) return;
  if (file.size > MAX_IMAGE_BYTES) {
    at("problem").textContent = `An image may have ${MAX_IMAGE_BYTES / 1024 / 1024} MB; this one has ${(file.size / 1024 / 1024).toFixed(1)}.`;
    return;
  }
  at("problem").textContent = "";
  const reader = new FileReader();
  reader.addEventListener("load", () => { image = reader.result; showImage(); announce("The image is attached."); });
  reader.readAsDataURL(file);
}

async function main() {
  try {
    const [found, summary] = await Promise.all([ask("models"), ask("summary")]);
    models = found.models.filter((model) => model.paths.includes("/v1/chat/completions"));
    if (!models.length) {
      at("empty").textContent = "There is no model for you here that talks.";
      at("send").disabled = true;
      return;
    }
    at("model").replaceChildren(...models.map((model) => h("option", { value: model.id }, model.id)));
    const wanted = decodeURIComponent(location.hash.slice(1));
    if (models.some((model) => model.id === wanted)) at("model").value = wanted;
    hasLedger = summary.usage !== null;
    const { groups } = summary.caller;
    at("payer").replaceChildren(h("option", { value: "" }, "as usual"), ...groups.map((group) => h("option", { value: group }, group)));
    at("payer-field").hidden = !groups.length;
    at("more").open = !matchMedia("(max-width: 56rem)").matches;
    showModel();
  } catch (error) {
    at("problem").textContent = error.message;
  }
}

at("composer").addEventListener("submit", submit);
at("settings").addEventListener("submit", (event) => event.preventDefault());
at("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
});
at("stop").addEventListener("click", () => running?.abort());
at("model").addEventListener("change", showModel);
at("image").addEventListener("change", attach);
at("code").addEventListener("click", showCode);
at("clear").addEventListener("click", () => {
  turns.length = 0;
  Object.assign(spent, { cost: 0, isKnown: true, tokens: 0, answers: 0 });
  at("log").replaceChildren(h("p", { class: "empty", id: "empty" }, `Say something, ${USER}.`));
  showWhole();
  at("message").focus();
});
main();
