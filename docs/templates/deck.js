// Starts reveal.js and makes each slide fit: one that is too tall is drawn smaller, down to SMALLEST; then its
// pictures grow as far as there is room.
const [WIDTH, HEIGHT, SMALLEST, LARGEST] = [1280, 720, 0.7, 1.7];

function fits(slide, zoom, scale) {
  slide.style.zoom = zoom;
  slide.querySelectorAll("img").forEach((picture) => {
    picture.style.width = `${(picture.getAttribute("width") || picture.naturalWidth) * scale}px`;
  });
  return slide.scrollHeight * zoom <= HEIGHT;
}

function fit(slide) {
  let [zoom, scale] = [1, LARGEST];
  while (zoom > SMALLEST && !fits(slide, zoom, 1)) zoom = Math.round(100 * zoom - 5) / 100;
  while (!fits(slide, zoom, scale) && scale > 1) scale = Math.round(10 * scale - 1) / 10;
}

Reveal.initialize({
  width: WIDTH,
  height: HEIGHT,
  margin: 0.04,
  center: false,
  hash: true,
  slideNumber: "c/t",
  defaultTiming: 60,  // seconds; every slide has its own, but without this the speaker view has no pace
  transition: "none",
  plugins: [RevealNotes],
});

Promise.all([MathJax.startup.promise, new Promise((ready) => Reveal.on("ready", ready))]).then(() => {
  Reveal.on("slidechanged", (event) => fit(event.currentSlide));
  fit(Reveal.getCurrentSlide());
  document.body.dataset.ready = "yes";
});
