(() => {
  const body = document.body;
  const base = body.dataset.base;

  // Tokens are fetched when they are opened, and told as text: nothing that a model wrote is ever markup.
  const tell = async (strip) => {
    const place = strip.querySelector(".tokens");
    if (!strip.open || place.childElementCount) return;
    const answer = await fetch(strip.dataset.tokens);
    if (!answer.ok) { place.textContent = "can't be read"; return; }
    const found = await answer.json();
    found.texts.forEach((text, n) => {
      const token = document.createElement("span");
      token.textContent = text.replaceAll("\n", "⏎\n");
      token.className = found.shades[n] < 0 ? "put" : `t${found.shades[n]}`;
      const value = found.logprobs[n];
      token.title = found.shades[n] < 0 ? "not written by the policy" : value === null ? "no log-prob" : `${value} nats, ${(100 * Math.exp(value)).toPrecision(3)} %`;
      place.append(token);
    });
    if (found.more) place.append(` … and ${found.more} more tokens`);
    if (!found.decoded) place.append(" (ids: the policy's tokenizer is not here)");
  };
  const element = (kind, words, name = "") => {
    const made = document.createElement(kind);
    made.textContent = words;
    made.className = name;
    return made;
  };
  const choices = async (fold) => {
    const place = fold.querySelector(".choices");
    if (!fold.open || place.childElementCount) return;
    const answer = await fetch(fold.dataset.choices);
    const steps = answer.ok ? await answer.json() : [];
    if (!steps.length) place.append(element("li", "the choices are not here"));
    for (const step of steps) {
      const line = element("li", "");
      const named = step.of.map((name, n) => `${name} × ${step.weights[n] ?? 1}`).join(", ");
      line.append(element("span", `from token ${step.from}${named ? `: ${named}` : ""}`, "quiet"));
      for (const one of step.candidates) {
        const values = one.values.length ? `  ${one.values.map((value) => value.toFixed(3)).join(" / ")}` : "";
        line.append(element("p", `${one.kept ? "▸ " : ""}${one.text}${values}`, one.kept ? "kept" : "quiet"));
      }
      place.append(line);
    }
  };
  document.addEventListener("toggle", (event) => {
    const fold = event.target;
    if (fold.dataset?.tokens) tell(fold);
    if (fold.dataset?.choices) choices(fold);
  }, true);

  // A reader's word on a completion. The same verdict again takes it back.
  const spell = (word) => `${word[0]}: ${word[1].replaceAll("_", " ")}${word[2] ? ` (${word[2]})` : ""}`;
  const say = async (place, verdict, why) => {
    const { say: where, row, index, reader, mine } = place.dataset;
    const asked = { row: Number(row), index: Number(index), verdict: mine === verdict && !why ? "" : verdict, why };
    const answer = await fetch(where, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(asked) });
    if (!answer.ok) { place.querySelector(".said").textContent = await answer.text(); return; }
    const { said } = await answer.json();
    place.dataset.mine = said.find((word) => word[0] === reader)?.[1] ?? "";
    place.querySelector(".said").textContent = said.map(spell).join("; ");
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.(".say button");
    if (!button) return;
    const place = button.closest(".say");
    if (button.dataset.verdict) say(place, button.dataset.verdict, "");
    else if (place.querySelector("select").value) say(place, place.querySelector("select").value, place.querySelector("input").value);
  });

  // The run itself stands at the right of its lineage.
  const settle = () => { for (const wide of document.querySelectorAll(".lineage .wide")) wide.scrollLeft = wide.scrollWidth; };
  settle();

  // A list of runs is narrowed down as one types.
  const find = document.querySelector("#find");
  const narrow = () => {
    if (!find) return;
    const words = find.elements.find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...document.querySelectorAll(".list tbody tr")];
    let count = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => row.dataset.words.toLowerCase().includes(word));
      count += !row.hidden;
    }
    find.querySelector("output").textContent = `${count} of ${rows.length}`;
  };
  find?.addEventListener("input", narrow);
  find?.addEventListener("submit", (event) => event.preventDefault());
  narrow();

  // Keys for moving on.
  let here = -1;
  const cards = [...document.querySelectorAll(".card")];
  const go = (to) => {
    if (!cards.length) return;
    cards[here]?.classList.remove("here");
    here = Math.min(cards.length - 1, Math.max(0, to));
    cards[here].classList.add("here");
    cards[here].scrollIntoView({ block: "start" });
    cards[here].focus({ preventScroll: true });
  };
  const turn = (where) => document.querySelector(`.pager a[rel=${where}]`)?.click();
  const fold = () => {
    const blocks = [...document.querySelectorAll(".thinking")];
    const open = blocks.some((block) => !block.open);
    blocks.forEach((block) => { block.open = open; });
  };
  const keys = { j: () => go(here + 1), k: () => go(here - 1), n: () => turn("next"), p: () => turn("prev"), t: fold };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector("input[type=search]")?.focus();
    } else keys[event.key]?.();
  });

  // A page of something that goes on asks what has changed; rows that are being read stay where they are.
  if (body.dataset.live === undefined) return;
  let known = "";
  const renew = async () => {
    const text = await (await fetch(location.href)).text();
    const fresh = new DOMParser().parseFromString(text, "text/html");
    for (const part of document.querySelectorAll("[data-refresh]")) {
      const now = fresh.getElementById(part.id);
      if (!now) continue;
      // What somebody opened or folded stays so.
      const folds = [part, ...part.querySelectorAll("details")].filter((fold) => fold.tagName === "DETAILS");
      [now, ...now.querySelectorAll("details")].filter((fold) => fold.tagName === "DETAILS")
        .forEach((fold, n) => { if (folds[n]) fold.open = folds[n].open; });
      part.replaceWith(document.adoptNode(now));
    }
    settle();
    if (fresh.body.dataset.live === undefined) delete body.dataset.live;
    narrow();
  };
  const ask = async () => {
    if (body.dataset.live === undefined) return;
    try {
      const state = await (await fetch(`${base}/state?run=${encodeURIComponent(body.dataset.live)}`)).json();
      const told = JSON.stringify(state);
      if (known && told !== known) {
        await renew();
        const landed = document.querySelector("#landed");
        if (landed) {
          landed.hidden = false;
          landed.querySelector("a").textContent = `more rows have landed: ${state.rows.toLocaleString()} by now`;
        }
      }
      known = told;
    } catch { /* The view has ended, or this machine sleeps: the next question tells. */ }
    setTimeout(ask, document.hidden ? 10000 : 2000);
  };
  ask();
})();
