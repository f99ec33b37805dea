// The documentation page: lists what /openapi.json describes, sends real requests, shows what comes back.
// Requests go out as the person who is logged in: with the session's cookie and its XSRF token.
// What arrives is shown as text nodes only, so that no answer can become markup.

const setting = (name) => document.querySelector(`meta[name="gateway-${name}"]`).content;
const PREFIX = setting("prefix");
const XSRF = setting("xsrf");
const BASE_URL = new URL(`${PREFIX}v1`, location.origin).href;
const RAW_LIMIT = 1_000_000; // characters of a raw answer that are shown

// ---------------------------------------------------------------- elements

/** Make an element. Attributes named on… are listeners; false and null leave an attribute out. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "offscreen", readonly: true }, text);
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy"); // on plain http there is no other way
  area.remove();
  if (!done) throw new Error("the browser did not copy");
}

function copyButton(name, text) {
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy ${name}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await copy(text());
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not copied";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

function codeBlock(name, text = "") {
  const code = h("code", {}, text);
  const block = h(
    "div",
    { class: "code", "data-name": name },
    h("pre", { tabindex: 0, role: "group", "aria-label": name }, code),
    copyButton(name, () => code.textContent),
  );
  block.show = (shown) => (code.textContent = shown);
  return block;
}

/** Make tabs of [label, element] pairs; the arrow keys move between them. */
function tabs(label, pairs) {
  const id = label.toLowerCase().replace(/\W+/g, "-");
  const buttons = pairs.map(([name], index) =>
    h("button", { type: "button", role: "tab", id: `${id}-tab-${index}`, "aria-controls": `${id}-${index}` }, name),
  );
  const panels = pairs.map(([, content], index) =>
    h("div", { role: "tabpanel", id: `${id}-${index}`, "aria-labelledby": `${id}-tab-${index}` }, content),
  );
  const select = (chosen) => {
    buttons.forEach((button, index) => {
      button.setAttribute("aria-selected", index === chosen);
      button.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
    });
  };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => select(index));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (index + step + buttons.length) % buttons.length;
      select(next);
      buttons[next].focus();
    });
  });
  select(0);
  const element = h(
    "div",
    { class: "tabbed" },
    h("div", { role: "tablist", "aria-label": label, class: "tablist" }, buttons),
    panels,
  );
  element.select = select;
  return element;
}

function table(caption, heads, rows) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      {},
      h("caption", { class: "offscreen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))),
    ),
  );
}

/** Show text as people write it: ``` blocks, `code` and **bold**, everything else as it is. */
function prose(text) {
  const parts = text.split(/^[ \t]*```/m);
  return parts.map((part, index) => {
    if (index % 2 === 0) {
      const words = part.replace(/^\s*\n|\s+$/g, "");
      return words ? h("div", { class: "prose" }, inline(words)) : null;
    }
    const [, language, body] = part.match(/^([^\n]*)\n?([\s\S]*)$/);
    return h("pre", { class: "fence", "data-language": language.trim() }, h("code", {}, body));
  });
}

function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((piece, index) => {
    if (index % 2 === 0) return piece;
    return piece.startsWith("`") ? h("code", {}, piece.slice(1, -1)) : h("strong", {}, piece.slice(2, -2));
  });
}

const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(milliseconds < 9950 ? 2 : 1)} s`;

/** Write a time such as 1m0.985s, as the headers have it, for people. */
function wait(text) {
  const found = /^(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)(m?)s)?$/.exec(text ?? "");
  if (!found || !text) return text;
  const [hours, minutes, rest] = [found[1], found[2], found[3]].map((each) => Number(each ?? 0));
  const total = hours * 3600 + minutes * 60 + rest / (found[4] ? 1000 : 1);
  return total < 120 ? `${Math.ceil(total)} s` : total < 7200 ? `${Math.ceil(total / 60)} min` : `${Math.ceil(total / 3600)} h`;
}

// ---------------------------------------------------------------- the same call elsewhere

/** Write a JSON value as Python does, indented. */
function python(value, indent = "") {
  const inner = `${indent}    `;
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const items = Array.isArray(value)
    ? value.map((item) => python(item, inner))
    : Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}: ${python(item, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = `${open}${items.join(", ")}${close}`;
  if (line.length + indent.length < 80 && !line.includes("\n")) return line;
  return `${open}\n${items.map((item) => `${inner}${item},\n`).join("")}${indent}${close}`;
}

const PYTHON_CALLS = {
  createChatCompletion: ["chat.completions.create", "choices[0].message.content", "choices[0].delta.content"],
  createCompletion: ["completions.create", "choices[0].text", "choices[0].text"],
  createEmbedding: ["embeddings.create", "data[0].embedding[:5]"],
};

const ANTHROPIC_CALLS = { createMessage: "messages.create", countTokens: "messages.count_tokens" };

function anthropicSample(operation, body) {
  const client =
    `import os\nfrom anthropic import Anthropic\n\nclient = Anthropic(\n` +
    `    base_url="${BASE_URL.replace(/\/v1$/, "")}",\n    auth_token=os.environ["JUPYTERHUB_API_TOKEN"],\n)\n`;
  const lines = Object.entries(body).map(([key, value]) => `    ${key}=${python(value, "    ")},\n`);
  const name = body.stream ? "stream" : "answer";
  const whole = operation.operationId === "countTokens" ? "answer.input_tokens" : "answer.content[0].text";
  const end = body.stream ? `for event in stream:\n    print(event)\n` : `print(${whole})\n`;
  return `${client}\n${name} = client.${ANTHROPIC_CALLS[operation.operationId]}(\n${lines.join("")})\n${end}`;
}

function pythonSample(operation, body) {
  if (operation.operationId in ANTHROPIC_CALLS) return anthropicSample(operation, body);
  const client = `from openai import OpenAI\n\nclient = OpenAI()\n# Outside the Hub: OpenAI(base_url="${BASE_URL}", api_key="…")\n`;
  if (operation.operationId === "listModels") return `${client}\nfor model in client.models.list():\n    print(model.id)\n`;
  if (operation.operationId === "retrieveModel")
    return `${client}\nprint(client.models.retrieve(${JSON.stringify(body ?? "chat")}))\n`;
  const [call, whole, piece] = PYTHON_CALLS[operation.operationId];
  const known = operation.fields.map((field) => field.name);
  const entries = Object.entries(body);
  const others = Object.fromEntries(entries.filter(([key]) => !known.includes(key)));
  const lines = entries.filter(([key]) => known.includes(key)).map(([key, value]) => `    ${key}=${python(value, "    ")},\n`);
  if (Object.keys(others).length) lines.push(`    extra_body=${python(others, "    ")},\n`);
  const name = body.stream ? "stream" : "answer";
  const end = body.stream
    ? `for chunk in stream:\n    if chunk.choices:\n        print(chunk.${piece} or "", end="")\n`
    : `print(answer.${whole})\n`;
  return `${client}\n${name} = client.${call}(\n${lines.join("")})\n${end}`;
}

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curlSample(operation, url, body, text) {
  const lines = [`curl ${body?.stream ? "-N " : ""}${shell(url)}`];
  if (operation["x-required-scope"]) lines.push('-H "Authorization: Bearer $JUPYTERHUB_API_TOKEN"');
  if (operation.isForm) lines.push(...formSample(operation));
  else if (operation.method === "POST") lines.push('-H "Content-Type: application/json"', `-d ${shell(text)}`);
  return `${lines.join(" \\\n  ")}\n`;
}

/** Write the fields that a form needs, the model before the file. */
function formSample(operation) {
  const needed = operation.fields.filter((field) => field.isRequired || field.name === "model");
  return needed.map((field) => `-F ${field.name}=${field.isFile ? "@FILE" : `'…'`}`);
}

// ---------------------------------------------------------------- answers

/** Cut a stream of text into the data of its events, however it arrives. */
class EventReader {
  #rest = "";

  /** Take a piece, return the events that are complete. */
  feed(text) {
    const blocks = (this.#rest + text).split(/\r?\n\r?\n/);
    this.#rest = blocks.pop();
    return blocks.map((block) =>
      block
        .split(/\r?\n/)
        .filter((line) => line.startsWith("data:"))
        .map((line) => line.slice(5).trimStart())
        .join("\n"),
    ).filter(Boolean);
  }
}

/** The readable form of an answer. `take` gets each JSON document; `render` shows all so far. */
class Answer {
  /** `isOurs` is true where the session's cookie is what lets a person in. */
  constructor(isOurs) {
    this.isOurs = isOurs;
    this.element = h("div", { class: "answer" });
    this.choices = new Map();
    this.usage = null;
    this.other = null;
    this.fault = null;
  }

  take(found) {
    if (found?.usage) this.usage = found.usage;
    if (found?.error) this.fault = found;
    else if (Array.isArray(found?.choices)) found.choices.forEach((choice) => this.#merge(choice));
    else this.other = found;
  }

  #merge(choice) {
    const index = choice.index ?? 0;
    if (!this.choices.has(index)) this.choices.set(index, { text: "", reasoning: "", refusal: "", tools: [], finish: null });
    const whole = this.choices.get(index);
    const part = choice.delta ?? choice.message ?? {};
    const content = Array.isArray(part.content) ? part.content.map((item) => item.text ?? "").join("") : part.content;
    whole.text += content ?? choice.text ?? "";
    whole.reasoning += part.reasoning_content ?? part.reasoning ?? "";
    whole.refusal += part.refusal ?? "";
    whole.finish = choice.finish_reason ?? whole.finish;
    (part.tool_calls ?? []).forEach((call, position) => {
      const known = (whole.tools[call.index ?? position] ??= { name: "", arguments: "" });
      known.name += call.function?.name ?? "";
      known.arguments += call.function?.arguments ?? "";
    });
  }

  render() {
    const shown = [...this.choices.entries()].sort(([a], [b]) => a - b).map(([index, choice]) => this.#choice(index, choice));
    if (this.other !== null) shown.push(...document_(this.other));
    if (this.fault) shown.push(faultCard(this.fault, this.isOurs));
    this.element.replaceChildren(...shown);
  }

  #choice(index, choice) {
    const ends = { length: "cut: the longest answer was reached", content_filter: "stopped by the provider's filter" };
    return h(
      "div",
      { class: "choice" },
      this.choices.size > 1 ? h("h4", {}, `Answer ${index + 1}`) : null,
      choice.reasoning ? h("details", { open: !choice.text }, h("summary", {}, "Reasoning"), prose(choice.reasoning)) : null,
      choice.text ? prose(choice.text) : null,
      choice.refusal ? h("p", { class: "refusal" }, choice.refusal) : null,
      choice.tools.filter(Boolean).map((call) =>
        h("div", { class: "tool" }, h("span", { class: "label" }, "The model asks for"), h("code", {}, `${call.name}(${call.arguments})`)),
      ),
      ends[choice.finish] ? h("p", { class: "note" }, `The answer was ${ends[choice.finish]}.`) : null,
    );
  }
}

function document_(found) {
  if (typeof found === "string") return [h("pre", { class: "fence" }, h("code", {}, found))];
  const data = found?.data;
  if (Array.isArray(data) && data[0]?.object === "model")
    return [table("Models", ["Model", "Provider"], data.map((model) => [h("code", {}, model.id), model.owned_by ?? ""]))];
  if (Array.isArray(data) && data.length && data.every((item) => item?.embedding)) return embeddings(data);
  return [h("pre", { class: "fence" }, h("code", {}, JSON.stringify(found, null, 2)))];
}

/** Decode a vector: a list of numbers, or base64 of little-endian float32. */
function vector(embedding) {
  if (Array.isArray(embedding)) return embedding;
  const bytes = Uint8Array.from(atob(embedding), (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Array.from({ length: bytes.length >> 2 }, (_, index) => view.getFloat32(index * 4, true));
}

function embeddings(data) {
  const vectors = data.map((item) => vector(item.embedding));
  const start = (numbers) => `${numbers.slice(0, 5).map((number) => number.toFixed(4)).join(", ")}${numbers.length > 5 ? ", …" : ""}`;
  const shown = [
    table("Vectors", ["Text", "Numbers", "Begins with"], vectors.map((numbers, index) => [`${index + 1}`, `${numbers.length}`, h("code", {}, start(numbers))])),
  ];
  if (vectors.length === 2 && vectors[0].length === vectors[1].length) {
    const dot = (a, b) => a.reduce((sum, number, index) => sum + number * b[index], 0);
    const cosine = dot(...vectors) / Math.sqrt(dot(vectors[0], vectors[0]) * dot(vectors[1], vectors[1]));
    shown.push(h("p", {}, "Cosine similarity of the two: ", h("strong", {}, cosine.toFixed(4))));
  }
  return shown;
}

function faultCard(found, isOurs = true) {
  const error = typeof found.error === "object" ? found.error : { message: String(found.error) };
  const code = error.code ?? error.type;
  const hint = isOurs && ["invalid_api_key", "missing_api_key", "xsrf_token_missing"].includes(code)
    ? h("p", {}, "Your login may have ended. ", h("a", { href: location.href, onclick: () => location.reload() }, "Load the page again."))
    : null;
  return h(
    "div",
    { class: "fault", role: "alert" },
    h("p", { class: "message" }, error.message ?? "This request failed."),
    code ? h("p", { class: "note" }, "code ", h("code", {}, String(code)), error.param ? [", field ", h("code", {}, String(error.param))] : null) : null,
    hint,
  );
}

// ---------------------------------------------------------------- the document

const METHODS = ["get", "post"];

function resolve(spec, schema) {
  const name = schema?.$ref?.split("/").pop();
  const group = schema?.$ref?.split("/")[2];
  return name ? resolve(spec, spec.components[group][name]) : schema ?? {};
}

function typeName(spec, schema) {
  const found = resolve(spec, schema);
  if (found.anyOf) return found.anyOf.map((one) => typeName(spec, one)).join(" or ");
  if (found.type === "array") return found.items ? `list of ${typeName(spec, found.items)}` : "list";
  if (Array.isArray(found.type)) return found.type.join(" or ");
  return found.const !== undefined ? JSON.stringify(found.const) : found.type ?? "anything";
}

function operationsOf(spec) {
  return Object.entries(spec.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const operation = { ...item[method], path, method: method.toUpperCase() };
      const content = operation.requestBody?.content["application/json"];
      const form = operation.requestBody?.content["multipart/form-data"];
      operation.isForm = Boolean(form) && !content;
      const schema = resolve(spec, (content ?? form)?.schema);
      operation.examples = Object.values(content?.examples ?? {});
      operation.fields = Object.entries(schema.properties ?? {}).map(([name, property]) => ({
        name,
        type: typeName(spec, property),
        isRequired: (schema.required ?? []).includes(name),
        isFile: resolve(spec, property).format === "binary",
        text: resolve(spec, property).description ?? "",
      }));
      operation.answers = Object.entries(operation.responses).map(([status, answer]) => [status, resolve(spec, answer)]);
      return operation;
    }),
  );
}

// ---------------------------------------------------------------- models

const KINDS = {
  createChatCompletion: "llm/v1/chat",
  createCompletion: "llm/v1/completions",
  createEmbedding: "llm/v1/embeddings",
  createImage: "llm/v1/images",
  editImage: "llm/v1/images",
  createSpeech: "llm/v1/speech",
  createModeration: "llm/v1/moderations",
  rerank: "llm/v1/rerank",
};

/** Say whether a model serves an operation, as far as its entry tells. */
function suits(model, operationId) {
  const kind = KINDS[operationId];
  const kinds = [model.endpoint_type, model.endpoint_types].flat().filter(Boolean);
  return !kind || !kinds.length || kinds.includes(kind);
}

async function loadModels() {
  const response = await fetch(`${PREFIX}v1/models`, { headers: { "X-XSRFToken": XSRF }, credentials: "same-origin" });
  const found = await response.json();
  if (!response.ok) throw Object.assign(new Error("models"), { found });
  return found.data;
}

// ---------------------------------------------------------------- one operation

/** The part of the page where one operation is explained and tried. */
class Workbench {
  constructor(operation, models) {
    this.operation = operation;
    this.models = models.filter((model) => suits(model, operation.operationId));
    this.abort = null;
    this.element = h("div", { class: "workbench" });
    this.#build();
  }

  #build() {
    const { operation } = this;
    this.#buildRequest();
    this.#buildAnswer();
    this.samples = this.#buildSamples();
    this.element.append(
      h(
        "header",
        { class: "title" },
        h("h1", { tabindex: -1 }, operation.summary),
        h("p", { class: "endpoint" }, h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method), h("code", {}, PREFIX.slice(0, -1) + operation.path)),
        h("p", { class: "lead" }, inline(operation.description)),
        operation["x-required-scope"] ? h("p", { class: "note" }, "Needs the scope ", h("code", {}, operation["x-required-scope"])) : h("p", { class: "note" }, "Needs no token."),
      ),
      h("div", { class: "bench" }, this.form, this.output),
      this.samples ?? "",
      this.#fields(),
      this.#answers(),
    );
    this.#changed();
  }

  #buildRequest() {
    const { operation } = this;
    const controls = [];
    this.form = h("form", { class: "panel request", "aria-label": "Request", onsubmit: (event) => this.#send(event) });
    if (operation.examples.length || operation.parameters) controls.push(this.#modelPicker());
    if (operation.examples.length > 1) controls.push(this.#examplePicker());
    this.form.append(h("h2", {}, "Request"));
    if (controls.length) this.form.append(h("div", { class: "controls" }, controls));
    if (operation.examples.length) this.form.append(...this.#bodyEditor());
    this.sendButton = h("button", { type: "submit", class: "primary", id: "send" }, "Send");
    this.stopButton = h("button", { type: "button", id: "stop", disabled: true, onclick: () => this.abort?.abort() }, "Stop");
    if (operation.isForm) {
      this.form.append(h("p", { class: "note" }, "A form with a file is sent by a program, as below."));
      return;
    }
    this.form.append(h("div", { class: "actions" }, this.sendButton, this.stopButton, h("span", { class: "note keys" }, "Ctrl + Enter sends, Esc stops")));
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.#send(event);
      if (event.key === "Escape") this.abort?.abort();
    });
  }

  #modelPicker() {
    this.model = h("select", { id: "model", onchange: () => this.#set("model", (this.chosen = this.model.value)) });
    this.model.append(...this.models.map((model) => h("option", { value: model.id }, model.id)));
    if (!this.models.length) this.model.append(h("option", { value: "" }, "none for you here"));
    return h("label", { for: "model" }, "Model", this.model);
  }

  #examplePicker() {
    const options = this.operation.examples.map((example, index) => h("option", { value: index }, example.summary));
    const select = h("select", { id: "example", onchange: () => this.#load(Number(select.value)) }, options);
    return h("label", { for: "example" }, "Example", select);
  }

  #bodyEditor() {
    this.message = h("textarea", { id: "message", rows: 3, oninput: () => this.#setMessage(this.message.value) });
    this.messageLabel = h("label", { for: "message" }, this.#messageName(), this.message);
    this.body = h("textarea", { id: "body", rows: 12, spellcheck: false, autocapitalize: "off", autocomplete: "off", oninput: () => this.#changed(), "aria-describedby": "body-problem" });
    this.stream = h("input", { type: "checkbox", id: "streamed", onchange: () => this.#set("stream", this.stream.checked) });
    this.problem = h("p", { id: "body-problem", class: "problem", role: "status" });
    const canStream = this.operation.fields.some((field) => field.name === "stream");
    const parts = [
      this.messageLabel,
      canStream ? h("label", { class: "check", for: "streamed" }, this.stream, "Show the answer as it is made") : null,
      h("label", { for: "body" }, "Body (JSON)", this.body),
      this.problem,
    ].filter(Boolean);
    this.#load(0);
    return parts;
  }

  #messageName() {
    return { createChatCompletion: "Message", createCompletion: "Text to go on with", createEmbedding: "Text" }[this.operation.operationId];
  }

  #load(index) {
    const value = structuredClone(this.operation.examples[index].value);
    const names = this.models.map((model) => model.id);
    if (!names.includes(value.model)) value.model = names[0] ?? value.model;
    value.model = this.chosen ?? value.model;
    this.#write(value);
  }

  #write(value) {
    this.body.value = JSON.stringify(value, null, 2);
    this.#changed();
  }

  /** Return the body, or undefined when it is no JSON object. */
  #read() {
    try {
      const value = JSON.parse(this.body.value);
      return value && typeof value === "object" && !Array.isArray(value) ? value : undefined;
    } catch {
      return undefined;
    }
  }

  #set(name, value) {
    const body = this.body && this.#read();
    if (!body) return this.#changed();
    body[name] = value;
    this.#write(body);
  }

  /** Find where the message is in a body: an object and the key in it. */
  #messagePlace(body) {
    if (this.operation.operationId === "createCompletion") return [body, "prompt"];
    if (this.operation.operationId === "createEmbedding") return [body, "input"];
    const messages = Array.isArray(body.messages) ? body.messages : [];
    const last = messages.findLast((message) => message?.role === "user");
    return last ? [last, "content"] : [];
  }

  #setMessage(text) {
    const body = this.#read();
    const [place, key] = body ? this.#messagePlace(body) : [];
    if (!place) return;
    place[key] = text;
    this.#write(body);
  }

  /** Follow a change: the controls show what the body says, the samples as well. */
  #changed() {
    const body = this.body ? this.#read() : undefined;
    if (this.body) this.#followBody(body);
    this.#showSamples(body);
  }

  #followBody(body) {
    this.problem.textContent = body ? "" : "This is no JSON object yet.";
    this.body.setAttribute("aria-invalid", !body);
    if (this.sendButton) this.sendButton.disabled = !body || Boolean(this.abort);
    if (!body) return;
    const [place, key] = this.#messagePlace(body);
    const text = place?.[key];
    this.messageLabel.hidden = typeof text !== "string";
    if (typeof text === "string" && this.message.value !== text) this.message.value = text;
    this.stream.checked = body.stream === true;
    if ([...this.model.options].some((option) => option.value === body.model)) this.model.value = body.model;
  }

  // ------------------------------------------------ samples

  #buildSamples() {
    const hasPython = this.operation.operationId in PYTHON_CALLS || this.operation.operationId in ANTHROPIC_CALLS || ["listModels", "retrieveModel"].includes(this.operation.operationId);
    this.pythonCode = hasPython ? codeBlock("Python") : null;
    this.curlCode = codeBlock("curl");
    const pairs = [["Python", this.pythonCode], ["curl", this.curlCode]].filter(([, block]) => block);
    return h("section", { class: "panel" }, h("h2", {}, "The same in code"), tabs("The same in code", pairs));
  }

  #showSamples(body) {
    if (!this.curlCode || (this.body && !body)) return;
    const url = new URL(this.#path(), location.origin).href;
    this.curlCode.show(curlSample(this.operation, url, body, this.body?.value));
    this.pythonCode?.show(pythonSample(this.operation, this.body ? body : this.model?.value));
  }

  #path() {
    return PREFIX.slice(0, -1) + this.operation.path.replace("{id}", encodeURIComponent(this.model?.value ?? ""));
  }

  // ------------------------------------------------ sending

  #buildAnswer() {
    this.status = h("p", { class: "status", id: "status", role: "status" }, "Nothing sent yet.");
    this.facts = h("dl", { class: "facts" });
    this.readable = h("div", { class: "readable", id: "answer", tabindex: 0, role: "group", "aria-label": "Readable answer" });
    this.raw = h("pre", { class: "raw", id: "raw", tabindex: 0, role: "group", "aria-label": "Raw answer" });
    this.headers = h("div", { id: "headers" });
    this.tabs = tabs("Answer", [["Readable", this.readable], ["Raw", this.raw], ["Headers", this.headers]]);
    this.output = h("section", { class: "panel output", "aria-label": "Answer" }, h("h2", {}, "Answer"), this.status, this.facts, this.tabs);
  }

  async #send(event) {
    event.preventDefault();
    if (this.abort) return;
    const body = this.body ? this.#read() : undefined;
    if (this.body && !body) return;
    this.#begin();
    try {
      const response = await fetch(this.#path(), this.#request(body));
      this.#head(response);
      await this.#receive(response);
      this.#finish(response.ok ? "Done" : "Failed");
    } catch (error) {
      this.#finish(error.name === "AbortError" ? "Stopped" : `The connection failed: ${error.message}`);
    }
  }

  #request(body) {
    const headers = { "X-XSRFToken": XSRF };
    if (body) headers["Content-Type"] = "application/json";
    return {
      method: this.operation.method,
      headers,
      body: body && this.body.value,
      signal: this.abort.signal,
      credentials: "same-origin",
      cache: "no-store",
    };
  }

  #begin() {
    this.abort = new AbortController();
    this.begun = performance.now();
    this.firstByte = null;
    this.rawLength = 0;
    this.answer = new Answer(this.operation["x-required-scope"]?.startsWith("custom:"));
    this.readable.replaceChildren(this.answer.element);
    this.raw.replaceChildren();
    this.headers.replaceChildren();
    this.facts.replaceChildren();
    this.output.dataset.state = "waiting";
    this.status.textContent = "Sent, waiting for the answer …";
    this.sendButton.disabled = true;
    this.stopButton.disabled = false;
    if (matchMedia("(max-width: 64rem)").matches) this.output.scrollIntoView({ block: "start" });
  }

  #head(response) {
    this.response = response;
    this.output.dataset.state = response.ok ? "receiving" : "failed";
    this.status.textContent = "Receiving …";
    const rows = [...response.headers.entries()].map(([name, value]) => [h("code", {}, name), h("code", {}, value)]);
    this.headers.replaceChildren(table("Headers of the answer", ["Header", "Value"], rows));
    this.#showFacts();
  }

  async #receive(response) {
    const type = response.headers.get("Content-Type") ?? "";
    if (type.startsWith("audio/")) return this.#takeSound(response, type);
    const isStream = type.includes("event-stream");
    const decoder = new TextDecoder();
    const events = new EventReader();
    const pieces = [];
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      this.firstByte ??= performance.now();
      const text = decoder.decode(value, { stream: true });
      this.#showRaw(text);
      if (isStream) events.feed(text).forEach((data) => this.#takeEvent(data));
      else pieces.push(text);
      this.#renderSoon();
    }
    if (!isStream) this.#takeWhole(pieces.join(""), response);
  }

  /** Say how much sound came; what it is, no text can tell. */
  async #takeSound(response, type) {
    let length = 0;
    for (const reader = response.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      this.firstByte ??= performance.now();
      length += value.length;
    }
    this.answer.take(`Sound, ${type}: ${length} bytes.`);
  }

  #takeEvent(data) {
    if (data === "[DONE]") return;
    try {
      this.answer.take(JSON.parse(data));
    } catch {
      this.answer.take({ error: { message: "An event of the stream is no JSON." } });
    }
  }

  #takeWhole(text, response) {
    const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
    try {
      this.answer.take(isJson ? JSON.parse(text) : text);
    } catch {
      this.answer.take(text);
    }
  }

  #showRaw(text) {
    if (this.rawLength > RAW_LIMIT) return;
    this.rawLength += text.length;
    this.raw.append(document.createTextNode(text));
    if (this.rawLength > RAW_LIMIT) this.raw.append("\n… the rest is not shown");
  }

  #renderSoon() {
    if (this.isRendering) return;
    this.isRendering = true;
    requestAnimationFrame(() => {
      this.isRendering = false;
      this.#render();
    });
  }

  #render() {
    const pane = this.readable;
    const isAtEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 40;
    this.answer.render();
    if (isAtEnd) pane.scrollTop = pane.scrollHeight;
    this.#showFacts();
  }

  #finish(text) {
    this.ended = performance.now();
    this.abort = null;
    this.output.dataset.state = { Done: "done", Stopped: "stopped" }[text] ?? "failed";
    this.#render();
    if (this.answer.fault && text === "Done") this.output.dataset.state = "failed";
    this.status.textContent = this.output.dataset.state === "failed" && text === "Done" ? "Failed on the way" : text;
    this.sendButton.disabled = false;
    this.stopButton.disabled = true;
    if (this.body) this.#changed();
  }

  #showFacts() {
    const { response } = this;
    if (!response) return;
    const header = (name) => response.headers.get(name);
    const now = this.abort ? performance.now() : this.ended;
    const facts = [
      ["Status", `${response.status} ${response.statusText}`.trim(), response.ok ? "good" : "bad"],
      ["First byte", this.firstByte ? seconds(this.firstByte - this.begun) : null],
      ["Time", seconds(now - this.begun)],
      ["Tokens", tokens(this.answer.usage)],
      ["Calls left", header("x-ratelimit-remaining-requests") && `${header("x-ratelimit-remaining-requests")} of ${header("x-ratelimit-limit-requests")}`],
      ["All back in", wait(header("x-ratelimit-reset-requests"))],
      ["Try again in", header("retry-after") && `${header("retry-after")} s`],
      ["Request", header("x-request-id"), "id"],
    ];
    this.facts.replaceChildren(
      ...facts.filter(([, value]) => value).map(([name, value, kind]) => h("div", { class: kind ?? false }, h("dt", {}, name), h("dd", {}, value))),
    );
  }

  // ------------------------------------------------ reference

  #fields() {
    if (!this.operation.fields.length) return "";
    const rows = this.operation.fields.map((field) => [
      [h("code", {}, field.name), field.isRequired ? h("span", { class: "required" }, "required") : null].filter(Boolean),
      field.type,
      field.text,
    ]);
    return h("details", { class: "panel" }, h("summary", {}, "Fields of the body"), table("Fields of the body", ["Field", "Type", "What it does"], rows.map((row) => row.map((cell) => h("span", {}, cell)))));
  }

  #answers() {
    const rows = this.operation.answers.map(([status, answer]) => {
      const example = answer.content?.["application/json"]?.example;
      return [h("code", {}, status), h("div", {}, answer.description, example ? h("details", {}, h("summary", { class: "note" }, "Example"), h("pre", { class: "fence" }, h("code", {}, JSON.stringify(example, null, 2)))) : null)];
    });
    return h("details", { class: "panel" }, h("summary", {}, "Answers and errors"), table("Answers", ["Status", "Means"], rows));
  }
}

function tokens(usage) {
  if (!usage) return null;
  const input = usage.prompt_tokens ?? usage.input_tokens;
  const output = usage.completion_tokens ?? usage.output_tokens;
  return [input === undefined ? null : `${input} in`, output === undefined || output === null ? null : `${output} out`].filter(Boolean).join(", ");
}

// ---------------------------------------------------------------- the page

class Page {
  constructor(spec, models, fault) {
    this.operations = operationsOf(spec);
    this.spec = spec;
    this.models = models;
    this.fault = fault;
    this.benches = new Map();
    this.start = document.getElementById("start");
    this.section = document.getElementById("operation");
    this.side = document.getElementById("side");
  }

  show() {
    this.#fillSide();
    this.#fillStart();
    window.addEventListener("hashchange", () => this.#route(true));
    this.#route(false);
  }

  #fillSide() {
    const link = (id, text, method) => h("a", { href: `#${id}`, "data-id": id }, h("span", {}, text), method ? h("span", { class: `method ${method.toLowerCase()}`, "aria-hidden": "true" }, method) : null);
    const groups = this.spec.tags.map((tag) => [tag.name, this.operations.filter((operation) => operation.tags.includes(tag.name))]);
    this.side.append(
      h("ul", {}, h("li", {}, link("start", "Start here"))),
      ...groups.flatMap(([name, operations]) => [
        h("h2", {}, name),
        h("ul", {}, operations.map((operation) => h("li", {}, link(operation.operationId, operation.summary, operation.method)))),
      ]),
    );
  }

  #fillStart() {
    for (const block of document.querySelectorAll("#start .code")) {
      const pre = block.querySelector("pre");
      pre.tabIndex = 0;
      block.append(copyButton(block.dataset.name, () => pre.textContent));
    }
    const client = document.getElementById("client");
    client.textContent = client.textContent.replace(/base_url="[^"]*"/, `base_url="${BASE_URL}"`);
    const chat = this.models.find((model) => suits(model, "createChatCompletion"));
    const cell = document.getElementById("first-cell");
    if (chat) cell.textContent = cell.textContent.replace('model="chat"', `model=${JSON.stringify(chat.id)}`);
    document.getElementById("models").replaceChildren(this.#models());
  }

  #models() {
    if (this.fault) return faultCard(this.fault);
    if (!this.models.length) return h("p", {}, "There is none for you yet. Whoever runs this Hub can grant you some.");
    const rows = this.models.map((model) => [h("code", {}, model.id), model.owned_by ?? "", this.#tries(model)]);
    return table("Your models", ["Model", "Provider", "Try it"], rows);
  }

  #tries(model) {
    const able = this.operations.filter((operation) => operation.operationId in KINDS && suits(model, operation.operationId));
    return h("span", { class: "tries" }, able.map((operation) => h("a", { href: `#${operation.operationId}`, "aria-label": `${operation.summary} with ${model.id}`, onclick: () => this.#choose(operation, model) }, operation.summary)));
  }

  #choose(operation, model) {
    const { model: select } = this.#bench(operation);
    select.value = model.id;
    select.dispatchEvent(new Event("change"));
  }

  #bench(operation) {
    if (!this.benches.has(operation.operationId)) this.benches.set(operation.operationId, new Workbench(operation, this.models));
    return this.benches.get(operation.operationId);
  }

  #markCurrent(link) {
    link.setAttribute("aria-current", "page");
    this.side.scrollLeft = link.offsetLeft - (this.side.clientWidth - link.offsetWidth) / 2; // a strip on phones
  }

  #route(isMove) {
    const id = location.hash.slice(1);
    const operation = this.operations.find((one) => one.operationId === id);
    this.start.hidden = Boolean(operation);
    this.section.hidden = !operation;
    for (const link of this.side.querySelectorAll("a")) {
      const isCurrent = link.dataset.id === (operation ? id : "start");
      if (isCurrent) this.#markCurrent(link);
      else link.removeAttribute("aria-current");
    }
    if (operation) this.section.replaceChildren(this.#bench(operation).element);
    if (!isMove) return;
    window.scrollTo(0, 0);
    (operation ? this.section.querySelector("h1") : document.getElementById("main")).focus({ preventScroll: true });
  }
}

async function main() {
  const response = await fetch(`${PREFIX}openapi.json`, { credentials: "same-origin" });
  const spec = await response.json();
  let models = [];
  let fault = null;
  try {
    models = await loadModels();
  } catch (error) {
    fault = error.found ?? { error: { message: "The models could not be loaded." } };
  }
  new Page(spec, models, fault).show();
}

main();
