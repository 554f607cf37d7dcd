
// ---- dream.js: what the dream panel adds to the page of the play panel --------------------------------------
// Three panes instead of one come with the view. Added here: who dreams from what, the divergence meter, branch
// and anchor, and the question whether an episode is kept.

EXTRAS.push({
  build(p) {
    const group = (...items) => element("div", { class: "lwm-row", role: "group", "aria-label": "Dream" },
      ...items);
    p.root.setAttribute("aria-label", "Dream panel");
    p.root.classList.add("lwm-dreams");
    p.follow = button("follow", "Follow the game", "Dream each step from the real one before");
    p.onward = button("onward", "Dream on", "Leave the dream alone");
    p.anchor = button("anchor", "Anchor", "Set the dream on the real frame, and dream on from there");
    p.branch = button("branch", "Branch here", "Play on from the step that is shown");
    [p.heatedLabel, p.heated] = select("temperature", "temperature");
    p.meter = element("div", { class: "lwm-gauge", "data-testid": "play-off" });
    p.meters = element("div", { class: "lwm-history", "data-testid": "play-offs" });
    p.keep = button("keep", "Keep", "Save the episode and its film");
    p.drop = button("drop", "Drop", "Forget the episode");
    p.question = element("div", { class: "lwm-question", role: "alertdialog", "data-testid": "play-question",
      "aria-label": "Keep this episode?", hidden: "" }, "The episode is over. Keep it?", p.keep, p.drop);
    p.stage.setAttribute("aria-label", "Game and dream");
    p.expectation.before(p.meter, p.meters);
    p.movers.after(group(p.follow, p.onward, p.anchor, p.heatedLabel));
    p.live.before(p.branch);
    p.facts.after(p.question);
  },
  draw(p, v) {
    const dreams = Boolean(v.panes);
    p.meter.hidden = p.meters.hidden = !dreams;
    p.follow.setAttribute("aria-pressed", v.follow);
    p.onward.setAttribute("aria-pressed", !v.follow);
    p.branch.hidden = !v.branches;
    p.question.hidden = !v.asks;
    Object.assign(p.root.dataset, { follow: v.follow, since: v.since, off: v.off, left: v.left ?? "",
      asks: v.asks });
    if (v.heard >= (p.changed || 0)) options(p.heated, v.temperatures, v.temperature);
    if (!dreams) return;
    const text = v.left === null ? "" : "left reality at step " + v.left;
    p.meter.replaceChildren(element("span", { class: "lwm-name" }, "divergence"),
      ...bar(Math.sqrt(v.off), "surprise", number(100 * v.off, 1) + " %"),
      element("span", { class: "lwm-paid" }, text));
    drawBars(p.meters, "so far", v.offs.map(Math.sqrt), 1);
  },
  listen(p, act) {
    p.follow.onclick = () => act({ type: "follow", value: true });
    p.onward.onclick = () => act({ type: "follow", value: false });
    p.anchor.onclick = () => act({ type: "anchor" });
    p.branch.onclick = () => act({ type: "branch" });
    p.keep.onclick = () => act({ type: "keep", value: true });
    p.drop.onclick = () => act({ type: "keep", value: false });
    p.heated.onchange = () => act({ type: "set", name: "temperature", value: Number(p.heated.value) });
  },
});
