"use strict";
/* Left and right go from scan to scan, Enter shows one large. Without this the page is
   scrolled. */
document.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const now = document.activeElement.closest(".scan");
  if (event.key === "Enter" && now) {
    now.classList.toggle("large");
    now.scrollIntoView({ block: "nearest" });
  }
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  const shown = [...document.querySelectorAll(".scan")].filter(
    (scan) => getComputedStyle(scan).display !== "none"
  );
  const first = shown.findIndex((scan) => scan.getBoundingClientRect().bottom > 0);
  const next = shown[now ? shown.indexOf(now) + step : Math.max(first, 0)];
  if (!next) return;
  event.preventDefault();
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
});
document.addEventListener("dblclick", (event) => {
  const scan = event.target.closest(".scan");
  if (scan) scan.classList.toggle("large");
});
