// The page /check: it tests this browser, its devices and its network in 15 seconds, and says what to do.

import { MARKS, isTurn, reportOf, rowsOf, summaryOf } from "./check-advice.js";
import { checkStun, checkTurn, openSession, sleep } from "./check-probes.js";
import { announce, byId, fill, h, reconcile, setText, toast } from "./dom.js";
import { logo } from "./landing.js";
import { Devices, LevelMeter, canCall } from "./media.js";
import { asyncHandler, errorMessage } from "./notice.js";
import { PeerShare } from "./peershare.js";

/** @import {CheckResults, CheckRow, CheckState, CheckedServer} from "./types" */

const PERMISSION_TIMEOUT = 9_000; // ms, for the browser's question and the devices to start
const SHOWN = 5_000; // for which one sees oneself, and within which picture and sound must come
const ANSWER_TIMEOUT = 2_000;
const HEARD = 0.1; // of the meter: more than a quiet room
const MAX_SERVERS = 12; // browsers bear some more
const STATES = /** @type {Record<CheckState, string>} */ ({
	good: "Works",
	unsure: "Attention",
	bad: "Does not work",
	running: "Not known yet",
});
const INTRODUCTION =
	"This takes 15 seconds. The browser will ask for your camera and microphone: you see that both work, and nothing of them is sent.";

const devices = new Devices();
const video = h("video", {
	class: "mirrored",
	muted: true,
	autoplay: true,
	playsInline: true,
	"aria-label": "Your camera's picture",
});
const bar = h("div", { class: "meter", role: "meter", "aria-label": "Level of your microphone" }); // 0 to 100
const preview = h("div", { class: "trial", hidden: true }, h("div", { class: "preview" }, video), bar);
const summary = h("p");
const lines = h("tbody");
const table = h(
	"table",
	{ hidden: true },
	h("caption", { class: "visually-hidden" }, "What was checked"),
	h(
		"thead",
		{ class: "visually-hidden" },
		h("tr", {}, h("th", { scope: "col" }, "Result"), h("th", { scope: "col" }, "Part")),
	),
	lines,
);
const startButton = h("button", { class: "primary", type: "button", onclick: asyncHandler(check) }, "Start the check");
const copyButton = h(
	"button",
	{ class: "secondary", type: "button", hidden: true, onclick: asyncHandler(copy) },
	"Copy the result",
);
const report = h("textarea", { hidden: true, readOnly: true, "aria-label": "The result, as text" });
/** @type {Partial<CheckResults>} */
let results = {};

/** Run it all, and show each part as soon as it is known. */
async function check() {
	results = { browser: !isSecureContext ? "Insecure" : canCall() ? "works" : "NoWebRTC" };
	setText(startButton, "Checking…");
	startButton.setAttribute("aria-disabled", "true"); // a disabled one would lose the focus
	copyButton.hidden = report.hidden = true;
	table.hidden = false;
	show("running", "The check is running. Say something meanwhile.");
	draw();
	try {
		await Promise.all([checkDevices(), checkNetwork()]);
		const { state, text } = summaryOf(known());
		show(state, text);
		copyButton.hidden = false;
	} finally {
		setText(startButton, "Try again");
		startButton.removeAttribute("aria-disabled");
	}
}

/** The results, when all of them are there. */
const known = () => /** @type {CheckResults} */ (results);

/** @param {Partial<CheckResults>} found */
function note(found) {
	Object.assign(results, found);
	draw();
}

function draw() {
	reconcile(lines, rowsOf(results), ({ name }) => name, newLine);
}

/** @param {CheckRow} row */
function newLine({ name }) {
	const mark = h("span", { class: "mark", "aria-hidden": "true" });
	const state = h("span", { class: "visually-hidden" });
	const text = h("p");
	const element = h("tr", {}, h("td", {}, mark, state), h("td", {}, h("b", {}, name), text));
	const update = (/** @type {CheckRow} */ row) => {
		element.dataset.state = row.state;
		setText(mark, MARKS[row.state]);
		setText(state, STATES[row.state]);
		setText(text, row.text);
	};
	return { element, update };
}

/** @param {CheckState} state @param {string} text */
function show(state, text) {
	summary.className = state === "bad" ? "notice bad" : "notice";
	setText(summary, text);
	announce(text);
}

// --- devices ---

async function checkDevices() {
	Object.assign(devices.choice, { muted: false, cameraOff: false }); // for now, and not remembered
	await Promise.race([devices.open(), sleep(PERMISSION_TIMEOUT)]);
	const { camera, audio, faults } = devices;
	preview.hidden = !camera && !audio;
	video.srcObject = camera && new MediaStream([camera]);
	bar.hidden = !audio;
	const shown = Date.now() + SHOWN;
	await Promise.all([
		checkCamera(camera, faults.video, shown),
		checkMicrophone(audio, faults.audio, shown),
		preview.hidden || sleep(SHOWN),
	]);
	preview.hidden = true;
	video.srcObject = null;
	devices.close();
}

/** @param {MediaStreamTrack | null} track @param {string} fault @param {number} until */
async function checkCamera(track, fault, until) {
	if (!track) return note({ camera: fault || "unanswered" });
	while (!(video.videoWidth && video.currentTime) && Date.now() < until) await sleep(100);
	note({ camera: video.videoWidth && video.currentTime ? "works" : "silent" });
}

/** @param {MediaStreamTrack | null} track @param {string} fault @param {number} until */
async function checkMicrophone(track, fault, until) {
	if (!track) return note({ microphone: fault || "unanswered" });
	let loudest = 0;
	const meter = new LevelMeter((level) => {
		loudest = Math.max(loudest, level);
		bar.style.setProperty("--level", level.toFixed(2));
		bar.setAttribute("aria-valuenow", String(Math.round(level * 100)));
	});
	meter.setTrack(track);
	while (loudest < HEARD && Date.now() < until) await sleep(100);
	note({ microphone: loudest < HEARD ? "silent" : "works" });
	await sleep(until - Date.now()); // the bar goes on as long as the picture
	meter.stop();
}

// --- the network ---

async function checkNetwork() {
	const client = new PeerShare();
	try {
		const session = await openSession(client);
		note({ session });
		if (session === "works" && canCall()) await checkServers(await askForServers(client));
	} catch (error) {
		note({ serversError: errorMessage(error) });
	} finally {
		client.close();
	}
}

/** @param {PeerShare} client */
async function askForServers(client) {
	const late = sleep(ANSWER_TIMEOUT).then(() => Promise.reject(new Error("It does not answer.")));
	return await Promise.race([client.getIceServers(), late]);
}

/** Each of its URLs by itself, all at once. @param {Awaited<ReturnType<typeof askForServers>>} answer */
async function checkServers({ iceServers, iceTransportPolicy }) {
	const all = iceServers
		.flatMap((server) => [server.urls].flat().map((url) => ({ url, server })))
		.slice(0, MAX_SERVERS);
	/** @type {CheckedServer[]} */
	const servers = all.map(({ url }) => ({ url, outcome: "", code: 0 }));
	note({ servers, isRelayOnly: iceTransportPolicy === "relay" });
	await Promise.all(
		all.map(async ({ url, server }, at) => {
			const result = isTurn({ url }) ? checkTurn(url, server) : checkStun(url);
			servers[at] = await result.catch(() => ({ url, outcome: "fails", code: 0 })); // a URL that this browser does not take
			draw();
		}),
	);
}

// --- the page ---

async function copy() {
	report.value = reportOf(known(), navigator.userAgent);
	report.rows = report.value.split("\n").length;
	try {
		await navigator.clipboard.writeText(report.value);
	} catch {
		report.hidden = false;
		report.select(); // over http there is only the old way
		if (!document.execCommand("copy"))
			throw new Error("The browser does not copy. The result is selected: copy it by hand.");
	}
	toast("The result is copied.");
}

fill(
	byId("app"),
	h(
		"main",
		{ class: "group" },
		h("header", { class: "bar" }, logo()),
		h(
			"div",
			{ class: "card" },
			h("h1", { tabindex: "-1" }, "Check this device"),
			h("p", {}, INTRODUCTION),
			preview,
			summary,
			h("div", { class: "choices" }, startButton, copyButton),
			report,
			table,
		),
	),
);
byId("boot").remove();
