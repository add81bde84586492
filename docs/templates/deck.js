// Starts reveal.js and makes each slide fit: one that is too tall is drawn smaller, down to SMALLEST.
const [WIDTH, HEIGHT, SMALLEST] = [1280, 720, 0.7];

function fit(slide) {
  for (let zoom = 1; zoom >= SMALLEST - 1e-6; zoom -= 0.05) {
    slide.style.zoom = zoom;
    if (slide.scrollHeight * zoom <= HEIGHT) return;
  }
}

Reveal.initialize({
  width: WIDTH,
  height: HEIGHT,
  margin: 0.04,
  center: false,
  hash: true,
  slideNumber: "c/t",
  transition: "none",
  plugins: [RevealNotes],
});

Promise.all([MathJax.startup.promise, new Promise((ready) => Reveal.on("ready", ready))]).then(() => {
  Reveal.on("slidechanged", (event) => fit(event.currentSlide));
  fit(Reveal.getCurrentSlide());
  document.body.dataset.ready = "yes";
});
