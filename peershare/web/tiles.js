// The tiles of a call: their content, and their layouts.

import { announce, avatar, h, hide, icon, setIcon, isolate, setProperties, setText } from "./dom.js";

/** @import {Quality, Rect, TileActions, TileView} from "./types" */

const GAP = 10; // px
const WIDEST = 16 / 9;
// A wide tile shows more of a person's picture; but a phone has more height.
const TALLEST = { wide: 1, tall: 9 / 16 };

/**
 * Lay out tiles of equal size, as large as they can be, in an area of this size.
 * @param {number} count @param {number} width @param {number} height @returns {Rect[]}
 */
export function grid(count, width, height) {
	const tallest = width > height ? TALLEST.wide : TALLEST.tall;
	let best = { area: -1, columns: 1, w: 0, h: 0 };
	for (let columns = 1; columns <= count; columns += 1) {
		const rows = Math.ceil(count / columns);
		const size = fit((width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows, tallest);
		const area = size.w * size.h;
		if (area > best.area) best = { area, columns, ...size };
	}
	const rows = Math.ceil(count / best.columns);
	const top = (height - rows * best.h - GAP * (rows - 1)) / 2;
	return Array.from({ length: count }, (_, at) => {
		const row = Math.floor(at / best.columns);
		const inRow = Math.min(best.columns, count - row * best.columns); // the last row is centred
		const left = (width - inRow * best.w - GAP * (inRow - 1)) / 2;
		return {
			x: left + (at % best.columns) * (best.w + GAP),
			y: top + row * (best.h + GAP),
			width: best.w,
			height: best.h,
		};
	});
}

/** @param {number} width @param {number} height @param {number} tallest */
function fit(width, height, tallest) {
	const w = Math.max(0, Math.min(width, height * WIDEST));
	return { w, h: Math.max(0, Math.min(height, w / tallest)) };
}

/**
 * Lay out one large tile and the others beside it, or below in a tall area: in the space that a wide picture leaves.
 * @param {number} count @param {number} large which one @param {number} width @param {number} height @returns {Rect[]}
 */
export function spotlight(count, large, width, height) {
	const others = count - 1;
	if (others === 0) return [{ x: 0, y: 0, width, height }];
	const isWide = width > height;
	const free = (isWide ? width - height * WIDEST : height - width / WIDEST) - GAP;
	const least = (isWide ? Math.min(240, width * 0.22) : Math.min(150, height * 0.2)) * (others > 4 ? 1.5 : 1);
	const strip = Math.max(least, Math.min(free, isWide ? width * 0.4 : height / 2));
	const rects = isWide ? grid(others, strip, height) : grid(others, width, strip);
	const [x, y] = isWide ? [width - strip, 0] : [0, height - strip];
	for (const rect of rects) Object.assign(rect, { x: rect.x + x, y: rect.y + y });
	rects.splice(large, 0, {
		x: 0,
		y: 0,
		width: width - (isWide ? strip + GAP : 0),
		height: height - (isWide ? 0 : strip + GAP),
	});
	return rects;
}

/**
 * Lay out two tiles: the other fills the area, oneself (the first) is in its corner.
 * @param {number} width @param {number} height @returns {Rect[]}
 */
export function pair(width, height) {
	const w = Math.max(92, Math.min(260, width * 0.22));
	const h = width > height ? w / WIDEST : w / 0.75;
	return [
		{ x: width - w - 14, y: height - h - 14, width: w, height: h },
		{ x: 0, y: 0, width, height },
	];
}

const STATES = {
	connecting: "Connecting…",
	connected: "",
	reconnecting: "Reconnecting…",
	failed: "No connection",
	ringing: "Ringing…",
};
const PAUSED = "Video paused, the connection is weak";
const NO_PICTURE = "Waiting for the picture…";
const BARS = { good: "bars-3", fair: "bars-2", poor: "bars-1", unknown: "bars-3" };
const LEVELS = { good: "Good connection", fair: "Fair connection", poor: "Poor connection", unknown: "Connection" };

/** One participant. `pin` is called to make the tile large, `retry` to connect again, `showDetails` to tell about the connection. */
export class Tile {
	video = h("video", { autoplay: true, playsInline: true });
	#name = h("span", { class: "name", dir: "auto" });
	#mute = h("span", { class: "muted" }, icon("mic-off"), h("span", { class: "visually-hidden" }, "muted"));
	#verified = h("span", { class: "verified" }, icon("verified"), h("span", { class: "visually-hidden" }, "verified"));
	#state = h("p", { class: "state" });
	#why = h("p", { class: "why" });
	#choices;
	#bars = icon("bars-3");
	#words = h("span", { class: "words" });
	#quality;
	#pin;
	#onBlocked;
	#view;
	#hasFrame = true;

	/** @param {TileView} view @param {TileActions} actions */
	constructor(view, { pin, retry, showDetails, route, onBlocked }) {
		const button = (/** @type {string} */ label, /** @type {(id: string) => void} */ act) =>
			h("button", { type: "button", class: "secondary small", onclick: () => act(view.id) }, label);
		this.#choices = h("div", { class: "choices" }, button("Try again", retry), button("Details", showDetails));
		this.#quality = h(
			"button",
			{ type: "button", class: "quality", "aria-haspopup": "dialog", onclick: () => showDetails(view.id) },
			this.#bars,
			this.#words,
		);
		this.#pin = h(
			"button",
			{ type: "button", class: "pin", "aria-pressed": "false", onclick: () => pin(view.id) },
			icon("pin"),
			h("span", { class: "visually-hidden" }, `Make ${view.name} large`),
		);
		this.#onBlocked = onBlocked;
		// The first frame has come, or there is no picture any more.
		for (const type of ["loadeddata", "emptied"]) this.video.addEventListener(type, () => this.update(this.#view));
		this.#view = view;
		this.route = () => view.isMe || route(this.video);
		this.element = h(
			"figure",
			{ class: "tile", "aria-label": view.name },
			this.video,
			h("div", { class: "face" }, avatar(view.avatarName ?? view.name)),
			h("div", { class: "middle" }, this.#state, this.#why, this.#choices),
			h("figcaption", {}, this.#mute, this.#name, this.#verified),
			this.#quality,
			this.#pin,
		);
		this.element.dataset.id = view.id;
		this.element.addEventListener("dblclick", () => pin(view.id));
	}

	/** @param {TileView} view */
	update(view) {
		const { element } = this;
		this.#view = view;
		this.video.muted = view.isMe || view.isOtherTab === true; // an echo otherwise
		if (this.video.srcObject !== view.stream) this.#show(view.stream);
		this.video.classList.toggle("mirrored", view.isMe && !view.screen);
		const { screen, speaking, isMe, audio, verified } = view;
		const isPaused = view.video && view.isPaused === true;
		const isWaiting = view.video && this.video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA;
		for (const [name, isOn] of Object.entries({
			screen,
			speaking,
			dark: !view.video || isWaiting || isPaused,
			me: isMe,
		}))
			element.classList.toggle(name, isOn);
		const hasFailed = view.state === "failed" && element.dataset.state !== "failed";
		element.dataset.state = view.state;
		const whose = screen ? (isMe ? "Your screen" : `${isolate(view.name)}'s screen`) : view.name;
		setText(this.#name, whose);
		const state = STATES[view.state] || (isPaused ? PAUSED : isWaiting ? NO_PICTURE : "");
		const words = [whose, verified && "verified", !audio && "muted", speaking && "speaking", state]
			.filter(Boolean)
			.join(", ");
		element.setAttribute("aria-label", words);
		this.#mute.hidden = view.audio || view.state === "ringing";
		this.#verified.hidden = !view.verified;
		setText(this.#state, state);
		setText(this.#why, view.status ?? "");
		if (hasFailed) announce(`${words}. ${view.status}`);
		this.#choices.hidden = view.state !== "failed";
		this.#showQuality(view);
	}

	/** @param {MediaStream | null} stream */
	#show(stream) {
		this.video.srcObject = stream;
		this.route();
		this.play();
	}

	/** True if a frame was shown since the last call, or if nobody would see one, or the browser does not tell. */
	takeFrame() {
		const { video, isPaused } = this.#view;
		const hasFrame = this.#hasFrame || !video || isPaused || document.hidden || this.video.paused;
		this.#hasFrame = !this.video.requestVideoFrameCallback;
		this.video.requestVideoFrameCallback?.(() => (this.#hasFrame = true));
		return hasFrame;
	}

	/** Play, or report that the browser blocks it. */
	play() {
		if (!this.video.srcObject) return;
		// Other errors come from a stream that is replaced meanwhile.
		this.video.play().catch((error) => error.name === "NotAllowedError" && this.#onBlocked());
	}

	/** @param {Rect} rect @param {boolean} isPinned */
	place(rect, isPinned) {
		for (const [side, size] of Object.entries(rect))
			this.element.style.setProperty(`--${side}`, `${Math.floor(size)}px`);
		this.#pin.setAttribute("aria-pressed", String(isPinned));
		this.element.classList.toggle("small", rect.width < 200);
		this.element.classList.toggle("tiny", rect.width < 130 || rect.height < 90);
	}

	/** @param {TileView} view */
	#showQuality({ quality, state, isMe }) {
		hide(this.#quality, isMe || !quality || state === "failed", this.#choices.querySelector("button"));
		if (!quality) return;
		setIcon(this.#bars, state === "connected" ? BARS[quality.level] : "bars-1");
		this.element.dataset.quality = quality.level;
		const words = describe(quality);
		setText(this.#words, words);
		// The label does not change each second; where there is no space for the figures, they are a tooltip.
		const title = this.element.classList.contains("small") ? words : "";
		setProperties(this.#quality, { "aria-label": LEVELS[quality.level], title });
	}
}

/** The figures with their units. @param {Quality} quality */
export const figures = ({ roundTrip, loss, bitrate }) => ({
	time: roundTrip < 1 ? `${round(roundTrip * 1000)} ms` : `${round(roundTrip)} s`,
	loss: `${round(loss * 100)} %`,
	rate: bitrate < 1e6 ? `${round(bitrate / 1000)} kbit/s` : `${round(bitrate / 1e6)} Mbit/s`,
});

/** @param {Quality} quality */
function describe(quality) {
	if (quality.level === "unknown") return LEVELS.unknown;
	const { time, loss, rate } = figures(quality);
	const texts = [`${time} round trip`, `${loss} lost`, rate, quality.resolution];
	return `${LEVELS[quality.level]}: ${texts.filter(Boolean).join(", ")}`;
}

/** Two digits: it changes each second. @param {number} figure */
const round = (figure) => Number(figure.toPrecision(2));
