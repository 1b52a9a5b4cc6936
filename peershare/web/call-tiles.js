// The area of a call's tiles: which tiles there are, where each is, which is large, and which is in a small window.

import { announce, h, hide, reconcile, setText } from "./dom.js";
import { LevelMeter } from "./media.js";
import { asyncHandler } from "./notice.js";
import { Tile, grid, pair, spotlight } from "./tiles.js";

/** @import {GroupSession, Rect, TileView, Track} from "./types" */

const SPEAKING_LEVEL = 0.45; // of 1
const SPEAKING_TIME = 800; // ms for which it is shown
const MAX_RINGING = 8; // tiles: a ring to a whole group needs no more
const PICTURE_HEIGHT = 360; // px of a picture in picture, whose size pages are not told
const TOUCHES = ["click", "pointerup", "touchend", "keydown"];

/** What the first screen does without. A browser asks again for a module that did not arrive. */
const loadDetails = () => import("./details.js");

/** The tiles of a call. */
export class CallTiles {
	#session;
	#title;
	#isCovered;
	#tiles = h("div", { class: "tiles" });
	#hint = h("p", { class: "hint" });
	/** Browsers wait for a touch before they play, after a reload for instance. Any touch will do. */
	#playButton = h("button", { type: "button", class: "primary play", hidden: true }, "Show picture, play sound");
	/** @type {Map<string, Tile>} */
	#tileById = new Map();
	#pinned = "";
	#isMoving = false; // the picture in picture, to another tile
	#spokeAt = -Infinity;
	#meter = new LevelMeter((level) => this.#handleLevel(level));
	#resizing = new ResizeObserver(() => this.#arrange());
	#lifetime = new AbortController();
	#watching = setInterval(() => this.#watch(), 1_000);

	/**
	 * @param {GroupSession} session @param {HTMLElement} title to have the focus when the play button is gone
	 * @param {() => boolean} isCovered whether something is above the tiles
	 */
	constructor(session, title, isCovered) {
		loadDetails().catch(() => {}); // before the server may be away
		this.#session = session;
		this.#title = title;
		this.#isCovered = isCovered;
		this.element = h("div", { class: "tile-area" }, this.#tiles, this.#playButton);
		this.#resizing.observe(this.#tiles);
		const { signal } = this.#lifetime;
		for (const touch of TOUCHES)
			addEventListener(touch, () => this.#unblock(), { signal, capture: true, passive: true });
		session.addEventListener("stats", () => this.#draw(), { signal });
		document.addEventListener("visibilitychange", () => this.#arrange(), { signal });
	}

	update() {
		const { client, devices, peers } = this.#session;
		const isAlone = peers.length + client.call.outgoing.size === 0;
		setText(this.#hint, isAlone ? "You are the only one in the call. Ring somebody, or send the link." : "");
		this.#meter.setTrack(devices.isMuted ? null : devices.audio);
		for (const tile of this.#tileById.values()) tile.route();
		this.#draw();
	}

	close() {
		this.#lifetime.abort();
		this.#resizing.disconnect();
		this.#meter.stop();
		clearInterval(this.#watching);
		if (document.pictureInPictureElement) document.exitPictureInPicture().catch(() => {});
	}

	async togglePictureInPicture() {
		if (document.pictureInPictureElement) return document.exitPictureInPicture();
		const others = [...this.#tileById].filter(([id, { video }]) => id !== "me" && video.readyState > 0);
		const [, tile] = others.find(([id]) => id === this.#large) ?? others[0] ?? [];
		if (!tile) throw new Error("There is no picture of somebody else yet.");
		await tile.video.requestPictureInPicture();
	}

	get #isSpeaking() {
		return performance.now() - this.#spokeAt < SPEAKING_TIME;
	}

	/** @param {number} level */
	#handleLevel(level) {
		const wasSpeaking = this.#isSpeaking;
		if (level > SPEAKING_LEVEL) this.#spokeAt = performance.now();
		if (wasSpeaking !== this.#isSpeaking) this.#draw();
	}

	/** Tell each peer whether its picture moves. */
	#watch() {
		for (const peer of this.#session.peers) peer.followPicture(this.#tileById.get(peer.userId)?.takeFrame() ?? true);
	}

	#unblock() {
		if (this.#playButton.hidden) return;
		hide(this.#playButton, true, this.#title);
		for (const tile of this.#tileById.values()) tile.play(); // if the browser wants another touch, the button is back
	}

	#draw() {
		const views = tileViews(this.#session, this.#isSpeaking);
		reconcile(
			this.#tiles,
			views,
			(view) => view.id,
			(view) => this.#makeTile(view),
		);
		const own = this.#tileById.get("me")?.element;
		if (own !== this.#hint.parentElement) own?.append(this.#hint);
		for (const id of [...this.#tileById.keys()]) if (!views.some((view) => view.id === id)) this.#tileById.delete(id);
		this.#updatePictureInPicture(views);
		this.#arrange();
	}

	/** @param {TileView} view */
	#makeTile(view) {
		const tile = new Tile(view, {
			pin: (id) => this.#pin(id),
			retry: (id) => this.#session.mesh?.restart(id),
			showDetails: (id) => asyncHandler(async () => (await loadDetails()).showDetails(this.#session, id))(),
			route: (video) => this.#session.devices.route(video),
			onBlocked: () => (this.#playButton.hidden = false),
		});
		this.#tileById.set(view.id, tile);
		return tile;
	}

	/** @param {string} id */
	#pin(id) {
		this.#pinned = this.#pinned === id ? "" : id;
		this.#arrange();
	}

	/** The ID of the large tile: the pinned one, else somebody's screen. */
	get #large() {
		if (this.#tileById.has(this.#pinned)) return this.#pinned;
		return tileViews(this.#session, false).find((view) => view.screen && !view.isMe)?.id ?? "";
	}

	#arrange() {
		const ids = [...this.#tileById.keys()];
		const { clientWidth: width, clientHeight: height } = this.#tiles;
		const large = ids.indexOf(this.#large);
		const isPair = large < 0 && ids.length === 2;
		const rects =
			large >= 0
				? spotlight(ids.length, large, width, height)
				: isPair
					? pair(width, height)
					: grid(ids.length, width, height);
		this.element.inert = this.#isCovered();
		this.#tiles.classList.toggle("pair", isPair);
		ids.forEach((id, at) => this.#tileById.get(id)?.place(rects[at], id === this.#pinned));
		this.#session.mesh?.show(ids.map((id, at) => ({ userId: id, height: this.#heightOf(id, rects[at]) })));
	}

	/** The height of a picture in pixels of the screen; 0 if nobody sees it. @param {string} id @param {Rect} rect */
	#heightOf(id, { height }) {
		const isInPicture = document.pictureInPictureElement === this.#tileById.get(id)?.video;
		if (document.hidden && !isInPicture) return 0;
		return Math.round((isInPicture ? Math.max(height, PICTURE_HEIGHT) : height) * devicePixelRatio);
	}

	/** Move the picture in picture where its tile has no picture any more, or end it: no last frame is left. @param {TileView[]} views */
	#updatePictureInPicture(views) {
		const current = document.pictureInPictureElement;
		// One's own is there only by the browser's menu.
		if (!current || this.#isMoving || current === this.#tileById.get("me")?.video) return;
		const shown = views.filter(({ video, state }) => video && !["failed", "ringing"].includes(state));
		const videos = shown.flatMap(({ id, isMe }) => (isMe ? [] : (this.#tileById.get(id)?.video ?? [])));
		if (videos.some((video) => video === current)) return;
		this.#isMoving = true;
		const next = videos.find(({ readyState }) => readyState > 0);
		announce(next ? "Picture in picture shows somebody else now." : "Picture in picture has ended.");
		const moved = next ? next.requestPictureInPicture() : Promise.reject();
		moved
			.catch(() => document.exitPictureInPicture())
			.catch(() => {}) // closed meanwhile
			.finally(() => (this.#isMoving = false));
	}
}

/** @type {WeakMap<MediaStreamTrack, MediaStream>} */
const ownStreams = new WeakMap();

/** @param {Track} track */
function ownStream(track) {
	if (!track) return null;
	const stream = ownStreams.get(track) ?? new MediaStream([track]);
	ownStreams.set(track, stream);
	return stream;
}

const NOTHING = { stream: null, audio: false, video: false, screen: false, speaking: false, quality: null };

/**
 * The content of the tiles: oneself, the peers, and the members who are being rung.
 * @param {GroupSession} session @param {boolean} isSpeaking whether we are @returns {TileView[]}
 */
function tileViews(session, isSpeaking) {
	const { client, devices } = session;
	/** @type {TileView} */
	const me = {
		id: "me",
		name: "You",
		avatarName: session.group?.me.username,
		isMe: true,
		stream: ownStream(devices.video),
		...session.ownMedia,
		speaking: isSpeaking,
		state: "connected",
		quality: null,
	};
	const peers = session.peers.map((peer) => {
		const { userId, stream, speaking, isPaused, state, quality } = peer;
		const media = session.mediaOf(userId);
		return {
			id: userId,
			name: session.nameOf(userId),
			isMe: false,
			isOtherTab: session.otherTabs.has(userId),
			stream,
			...media,
			verified: session.comparedWith(peer) === true,
			speaking: speaking && media.audio,
			isPaused,
			state,
			status: state === "connected" ? "" : session.statusOf(peer),
			quality,
		};
	});
	const { outgoing, participants } = client.call; // a member who accepts is in both for a moment
	const ringing = [...outgoing.keys()]
		.filter((id) => !participants.has(id))
		.slice(0, MAX_RINGING)
		.map((id) => {
			const state = /** @type {const} */ ("ringing");
			return { ...NOTHING, id: `ring-${id}`, name: session.nameOf(id), isMe: false, state };
		});
	return [me, ...peers, ...ringing];
}
