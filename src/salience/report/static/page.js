"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // Examples: one at a time, picked from a list, by the step buttons or by the page's address.
  const articles = all(".example");
  const picks = all(".picker button");
  let current = 0;
  const visible = () => picks.filter((pick) => !pick.parentElement.classList.contains("filtered"));
  const show = (index, announce = true) => {
    if (!articles[index]) return;
    current = index;
    articles.forEach((article, k) => article.classList.toggle("shown", k === index));
    picks.forEach((pick, k) => (k === index ? pick.setAttribute("aria-current", "true") : pick.removeAttribute("aria-current")));
    const list = picks[index].closest(".picker");
    const item = picks[index].parentElement;
    if (item.offsetTop < list.scrollTop || item.offsetTop + item.offsetHeight > list.scrollTop + list.clientHeight) {
      list.scrollTop = item.offsetTop - 40;
    }
    if (announce) byId("examples-status").textContent = `Example ${index + 1} is shown.`;
  };
  const step = (by) => {
    const shown = visible();
    if (!shown.length) return;
    const at = shown.indexOf(picks[current]);
    show(picks.indexOf(shown[(at + by + shown.length) % shown.length]));
  };
  picks.forEach((pick, index) => {
    pick.addEventListener("click", () => show(index));
    pick.addEventListener("keydown", (event) => {
      const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const shown = visible();
      const next = shown[shown.indexOf(pick) + by];
      if (next) { next.focus(); show(picks.indexOf(next)); }
    });
  });
  if (articles.length) {
    show(0, false);
    byId("example-previous").addEventListener("click", () => step(-1));
    byId("example-next").addEventListener("click", () => step(1));
  }

  // Filters: buttons that hide what does not carry their status.
  const targets = {
    examples: () => all(".picker li"),
    findings: () => all("#findings-table tbody tr, details.finding"),
  };
  const filter = (name, value) => {
    const bar = document.querySelector(`[data-filters="${name}"]`);
    all("button[aria-pressed]", bar).forEach((b) => b.setAttribute("aria-pressed", String(b.dataset.filter === value)));
    const items = targets[name]();
    items.forEach((item) => item.classList.toggle("filtered", value !== "" && !item.dataset.status.split(" ").includes(value)));
    const counted = items.filter((item) => item.tagName !== "DETAILS" && !item.classList.contains("filtered"));
    byId(`${name}-status`).textContent = `${counted.length} shown.`;
    if (name === "examples" && picks[current].parentElement.classList.contains("filtered")) step(1);
  };
  all("[data-filters]").forEach((bar) =>
    bar.addEventListener("click", (event) => {
      const button = event.target.closest("button[aria-pressed]");
      if (button) filter(bar.dataset.filters, button.dataset.filter);
    }));
  all("[data-verdict]").forEach((chip) => chip.addEventListener("click", () => filter("findings", chip.dataset.verdict)));

  // Sorting: a button in each heading; numbers by value, missing ones last.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort ?? cell.textContent.trim();
    const plain = text.replace(/[,\s]/g, "").replace("−", "-");
    return text === "" || text === "—" ? null : plain !== "" && !Number.isNaN(Number(plain)) ? Number(plain) : text;
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  const sort = (table, column, heading) => {
    const direction = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    all("th[aria-sort]", table).forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const keyed = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
    keyed.sort(([a], [b]) => (a === null ? (b === null ? 0 : 1) : b === null ? -1 : direction * compare(a, b)));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
  };
  all("table").filter((table) => table.tHead && table.tBodies[0] && table.tBodies[0].rows.length > 2).forEach((table) =>
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, column, heading));
    }));

  // Hovering: the numbers behind a highlighted part; a sentence outlines the parts it speaks of.
  const tip = byId("tip");
  const place = (event) => {
    tip.style.left = `${Math.min(event.clientX + 12, innerWidth - tip.offsetWidth - 8)}px`;
    tip.style.top = `${event.clientY + 18 + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 10 : event.clientY + 18}px`;
  };
  document.addEventListener("pointerover", (event) => {
    const part = event.target.closest("mark[title], mark[data-tip]");
    tip.hidden = !part;
    if (!part) return;
    if (part.title) { part.dataset.tip = part.title; part.removeAttribute("title"); }
    tip.textContent = `${part.textContent}: ${part.dataset.tip}`;
    place(event);
  });
  document.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
  all("[data-marked]").forEach((field) => {
    const units = field.dataset.marked.split(" ");
    all("mark, rect", field).forEach((mark, k) => { mark.dataset.unit = units[k]; });
  });
  all(".sentences li[data-units]").forEach((sentence) => {
    const units = sentence.dataset.units.split(" ").filter(Boolean);
    const mark = (on) => {
      const example = sentence.closest(".example");
      units.forEach((unit) => all(`[data-unit="${unit}"]`, example).forEach((part) => part.classList.toggle("told", on)));
    };
    sentence.addEventListener("pointerenter", () => mark(true));
    sentence.addEventListener("pointerleave", () => mark(false));
  });

  // Addresses: #example-3 picks the example, #finding-2 opens its evidence.
  const follow = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    const number = /^example-(\d+)$/.exec(id);
    if (number) show(Number(number[1]) - 1);
    const place = id && byId(id);
    const closed = place && place.closest("details:not([open])");
    if (closed) closed.open = true;
    if (closed || number) place.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  follow();

  // The section that is being read, in the bar at the top.
  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const watch = new IntersectionObserver((entries) =>
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => {
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }), { rootMargin: "-20% 0px -70% 0px" });
  all("main > section").forEach((section) => watch.observe(section));

  // Printing: everything is opened, and closed again afterwards.
  let closed = [];
  addEventListener("beforeprint", () => { closed = all("details:not([open])"); closed.forEach((d) => { d.open = true; }); });
  addEventListener("afterprint", () => { closed.forEach((d) => { d.open = false; }); closed = []; });
})();
