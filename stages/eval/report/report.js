(() => {
  const form = document.querySelector(".filters");
  if (!form) return;
  const cards = [...document.querySelectorAll(".card")];
  // Not the commands that edit completions: their words are in every card.
  const told = (card) => [...card.querySelectorAll(".prompt, h4, .completion > :not(.edit)")].map((part) => part.textContent);
  const words = new Map(cards.map((card) => [card, told(card).join(" ").toLowerCase()]));
  const shown = form.querySelector("output");
  const apply = () => {
    const want = Object.fromEntries(new FormData(form));
    const query = (want.q || "").toLowerCase().split(/\s+/).filter(Boolean);
    const bound = (text, other) => (text && Number.isFinite(Number(text)) ? Number(text) : other);
    const [least, most] = [bound(want.least, -Infinity), bound(want.most, Infinity)];
    let count = 0;
    for (const card of cards) {
      const fits =
        (!want.label || card.dataset.label === want.label) &&
        (!want.family || card.dataset.family === want.family) &&
        (!want.kind || card.dataset.kind === want.kind) &&
        (!want.verdict || card.dataset.verdict.includes(`|${want.verdict}|`)) &&
        (!want.differ || card.dataset.differ !== undefined) &&
        ((least === -Infinity && most === Infinity) ||
          card.dataset.rewards.split(" ").some((text) => text && Number(text) >= least && Number(text) <= most)) &&
        query.every((word) => words.get(card).includes(word));
      card.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count} of ${cards.length}`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  apply();
})();
