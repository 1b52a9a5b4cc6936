// In place of the camera: somebody before a wall, who nods; in place of a screen, a slide. `seed` says who.
const wall = [["#d8c3a5", "#b08968"], ["#9fc0c9", "#4f7d8c"], ["#c9b6d9", "#77629a"], ["#bfd3b0", "#6d8f5b"]][seed];
const skin = ["#f0c8a0", "#8d5a3b", "#c98f63", "#e8b690"][seed];
const hair = ["#4a2f1d", "#1d1613", "#2b1d18", "#b8873b"][seed];
const shirt = ["#2f5d62", "#c2563c", "#334a7d", "#7d3c5d"][seed];

function person(context, time) {
  const { width, height } = context.canvas;
  const light = context.createLinearGradient(0, 0, width, height);
  light.addColorStop(0, wall[0]);
  light.addColorStop(1, wall[1]);
  context.fillStyle = light;
  context.fillRect(0, 0, width, height);
  context.fillStyle = "rgb(255 255 255 / 25%)";
  context.fillRect(width * 0.08, height * 0.1, width * 0.2, height * 0.42);
  const x = width * 0.52;
  const y = height * 0.46 + Math.sin(time / 900 + seed) * 4;
  const round = (color, cx, cy, rx, ry) => {
    context.fillStyle = color;
    context.beginPath();
    context.ellipse(cx, cy, rx, ry, 0, 0, 7);
    context.fill();
  };
  round(shirt, x, height * 1.1, height * 0.46, height * 0.4);
  context.fillStyle = skin;
  context.fillRect(x - height * 0.07, y + height * 0.14, height * 0.14, height * 0.16);
  round(hair, x, y - height * 0.06, height * 0.2, height * 0.22);
  round(skin, x, y, height * 0.165, height * 0.215);
  round(hair, x, y - height * 0.185, height * 0.17, height * 0.08);
  for (const side of [-1, 1]) round("#2a1c14", x + side * height * 0.065, y - height * 0.01, 5, 6);
  context.strokeStyle = "#7a3b2e";
  context.lineWidth = 5;
  context.beginPath();
  context.arc(x, y + height * 0.06, height * 0.06, 0.3, Math.PI - 0.3);
  context.stroke();
}

function slide(context) {
  const { width, height } = context.canvas;
  context.fillStyle = "#fdfcf8";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#1b2126";
  context.font = "bold 64px sans-serif";
  context.fillText("The way over the pass", 90, 150);
  context.font = "34px sans-serif";
  ["Start at seven, from the lower hut", "Four hours up, two down", "Bring water: the well is dry"]
    .forEach((line, at) => context.fillText(`•  ${line}`, 100, 250 + at * 64));
  context.strokeStyle = "#0b6e5b";
  context.lineWidth = 10;
  context.beginPath();
  [[90, 620], [330, 560], [520, 600], [760, 470], [980, 540], [1190, 500]].forEach(([x, y]) => context.lineTo(x, y));
  context.stroke();
}

function film(draw) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1280, height: 720 });
  const context = canvas.getContext("2d");
  draw(context, 0);
  setInterval(() => draw(context, performance.now()), 100);
  return canvas.captureStream(10).getVideoTracks()[0];
}
const devices = navigator.mediaDevices;
const real = devices.getUserMedia.bind(devices);
devices.getUserMedia = async (wanted) => {
  const stream = await real(wanted);
  for (const track of stream.getVideoTracks()) {
    stream.removeTrack(track);
    track.stop();
    stream.addTrack(film(person));
  }
  return stream;
};
devices.getDisplayMedia = async () => new MediaStream([film(slide)]);
