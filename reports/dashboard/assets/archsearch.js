// What the page does by itself: appearance, the address bar, tabs, keys. Text only ever goes in as text.
(() => {
  const nothing = () => window.dash_clientside.no_update;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const themes = ["auto", "light", "dark"];
  const shadeOf = (theme) => (theme === "light" || theme === "dark" ? theme : dark.matches ? "dark" : "light");

  // The page is made as the address and the system ask for, in one answer: the question for it says both.
  const plain = window.fetch.bind(window);
  window.fetch = (what, how = {}) => {
    if (!String(what).endsWith("_dash-layout")) return plain(what, how);
    const link = window.location.search;
    const said = {"X-Archsearch-Link": link, "X-Archsearch-Theme": shadeOf(new URLSearchParams(link).get("theme"))};
    return plain(what, {...how, headers: {...how.headers, ...said}});
  };

  window.archsearch = {
    // The theme that was chosen, or the system's; figures are told which.
    appear(theme, before) {
      const shade = shadeOf(theme);
      document.documentElement.dataset.theme = shade;
      document.documentElement.dataset.agThemeMode = shade;
      return shade === before ? nothing() : shade;
    },
    nextTheme(clicks, theme) {
      return clicks ? themes[(themes.indexOf(theme || "auto") + 1) % themes.length] : nothing();
    },
    // The address always says what is on the screen.
    address(query) {
      if (query === undefined || query === null) return nothing();
      window.history.replaceState(null, "", `${window.location.pathname}?${query}`);
      return query;
    },
    share(clicks) {
      if (!clicks) return nothing();
      const link = window.location.href;
      const write = navigator.clipboard ? navigator.clipboard.writeText(link) : Promise.reject(new Error("none"));
      const say = (text) => {
        const button = document.getElementById("share");
        button.textContent = text;
        window.setTimeout(() => { button.textContent = "Copy link"; }, 1500);
      };
      write.then(() => say("Copied"), () => say("Copy it from the address bar"));
      return nothing();
    },
    help(clicks) {
      if (clicks) document.getElementById("help").showModal();
      return nothing();
    },
    // Another study is another page: nothing of what was chosen holds there.
    go(study, linked) {
      const before = new URLSearchParams(linked || "").get("study");
      if (study && before && study !== before) {
        window.location.search = `?${new URLSearchParams({study})}`;
      }
      return nothing();
    },
    zoomed(change, x, y, zoom) {
      const by = window.dash_clientside.callback_context.triggered.map((one) => one.prop_id);
      const now = {...(zoom || {})};
      if (!by.includes("front.relayoutData")) {
        return by.length === 2 || !Object.keys(now).length ? nothing() : {};
      }
      for (const axis of ["x", "y"]) {
        const low = change[`${axis}axis.range[0]`];
        const high = change[`${axis}axis.range[1]`];
        if (low !== undefined && high !== undefined) now[axis] = [low, high];
        if (change[`${axis}axis.autorange`]) delete now[axis];
      }
      return JSON.stringify(now) === JSON.stringify(zoom || {}) ? nothing() : now;
    },
    tabs(open) {
      window.setTimeout(() => window.dispatchEvent(new Event("resize")), 0);
      return window.dash_clientside.callback_context.outputs_list.map((one) => one.id !== `panel-${open}`);
    },
    // Rows that are on the screen are asked for anew.
    again() {
      if (tables.getApiAsync) tables.getApiAsync("grid").then((grid) => grid.refreshInfiniteCache(), () => {});
      return nothing();
    },
  };

  const element = (...given) => window.React.createElement(...given);

  // Plotly is fetched and compiled beside everything else; the component of figures waits for a promise as for itself.
  const loaded = (name) => new Promise((done, failed) => {
    const src = document.querySelector(`meta[name=${name}]`).content;
    document.head.append(Object.assign(document.createElement("script"), {src, onload: done, onerror: failed}));
  });
  const complain = (what) => {
    const place = document.getElementById("alert");
    if (!place) { window.setTimeout(() => complain(what), 500); return; }
    place.textContent = `${what} could not be loaded from the dashboard's process: load the page again`;
    place.hidden = false;
  };
  window.Plotly = loaded("figures").then(() => window.Plotly);
  window.Plotly.catch(() => complain("Figures"));

  // The table's library is as large as all else but Plotly: it comes when the front is on the screen, or fails to.
  const LONGEST_MS = 15000;
  const drawn = new Promise((done) => {
    const look = () => document.querySelector("#front .main-svg") && (watch.disconnect(), done());
    const watch = new MutationObserver(look);
    watch.observe(document, {childList: true, subtree: true});
  });
  const shown = drawn
    .then(() => new Promise((done) => window.requestAnimationFrame(() => window.setTimeout(done, 0))))
    .then(() => window.performance.mark("front shown"));

  // Until then a still picture of it, which the process makes of the same figure, stands in its place.
  const still = Object.assign(new Image(), {className: "still-front", alt: "The front; it can be used in a moment"});
  const stand = () => {
    const box = document.querySelector(".front .pointed")?.getBoundingClientRect();
    if (!box) return;
    const at = {left: box.left + window.scrollX, top: box.top + window.scrollY, width: box.width, height: box.height};
    for (const [side, pixels] of Object.entries(at)) still.style[side] = `${pixels}px`;
  };
  const follow = new MutationObserver(stand);
  const begin = () => {
    const place = document.querySelector(".front .pointed");
    const link = window.location.search;
    const asked = {link: link.slice(1), shade: shadeOf(new URLSearchParams(link).get("theme")),
      width: Math.round(place.clientWidth), height: Math.round(place.clientHeight)};
    still.src = `front.svg?${new URLSearchParams(asked)}`;
    stand();
    document.body.append(still);
    follow.observe(document.body, {childList: true, subtree: true});
    still.decode().then(() => window.requestAnimationFrame(
      () => window.setTimeout(() => still.isConnected && window.performance.mark("front to be seen"), 0)), () => still.remove());
  };
  begin();
  const ended = () => { follow.disconnect(); still.remove(); };
  drawn.then(ended);
  window.Plotly.catch(ended);

  let tables = {};
  const late = new Promise((done) => { window.setTimeout(done, LONGEST_MS); });
  const tablesCome = Promise.race([shown, window.Plotly.then(() => shown, () => {}), late])
    .then(() => loaded("tables"))
    .then(() => { tables = window.dash_ag_grid; });
  tablesCome.catch(() => complain("The table"));
  const Late = (given) => {
    const [ready, setReady] = window.React.useState(Boolean(tables.AgGrid));
    window.React.useEffect(() => { tablesCome.then(() => setReady(true), () => {}); }, []);
    return ready ? element(tables.AgGrid, given) : element("div", {id: given.id, style: given.style});
  };
  Late.dashRenderType = true;  // as of the component itself: Dash then says what a drawing is for
  window.dash_ag_grid = {AgGrid: Late};

  const grid = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});
  grid.Strip = (cell) => {
    const colors = cell.colors || {};
    const spans = [];
    for (const letter of cell.value || "") {
      const last = spans[spans.length - 1];
      if (last && last.color === colors[letter]) last.text += letter;
      else spans.push({color: colors[letter], text: letter});
    }
    return element("span", {className: "strip"},
      spans.map((span, index) => element("span", {key: index, style: {color: span.color}}, span.text)));
  };
  grid.Tray = (cell) => cell.data === undefined ? null
    : element("span", {className: "tray", role: "checkbox", "aria-checked": Boolean(cell.value)}, cell.value ? "☑" : "☐");

  const press = (id) => { const found = document.getElementById(id); if (found) found.click(); };
  const keys = {
    n: () => press("next"), p: () => press("previous"), c: () => press("toggle"), t: () => press("theme-button"),
    l: () => press("share"), "?": () => press("help-button"), Escape: () => press("nothing"),
    "/": () => document.getElementById("find").focus(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.target.closest("input, textarea, select, [contenteditable], [role=combobox], [role=listbox], [role=option]")) {
      if (event.key === "Escape" && event.target.id === "find") event.target.blur();
      return;
    }
    if (/^[1-7]$/.test(event.key)) {
      const tabs = document.querySelectorAll(".tabs .tab");
      if (tabs[Number(event.key) - 1]) tabs[Number(event.key) - 1].click();
    } else if (keys[event.key]) {
      event.preventDefault();
      keys[event.key]();
    }
  });

  dark.addEventListener("change", () => window.dash_clientside.set_props && window.archsearch.followSystem());
  window.archsearch.followSystem = () => {
    const link = new URLSearchParams(window.location.search).get("theme");
    if (!link) window.dash_clientside.set_props("shade", {data: window.archsearch.appear("auto", null)});
  };

  // The dashboard's own process may end while the page stays open.
  window.setInterval(() => {
    const lost = document.getElementById("lost");
    if (!lost) return;
    fetch("alive", {cache: "no-store"}).then((answer) => { lost.hidden = answer.ok; }, () => {
      lost.textContent = "The dashboard's process has ended: what is shown no longer changes. Start it again: archsearch dashboard";
      lost.hidden = false;
    });
  }, 5000);
})();
