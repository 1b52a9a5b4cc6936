// The call: the tiles, and the people beside them.

import { controls } from "./controls.js";
import { announce, h, hide, reconcile, say } from "./dom.js";
import { invitation, memberList } from "./group.js";
import { LevelMeter } from "./media.js";
import { connectionNotice } from "./notice.js";
import { keysAreOn } from "./settings.js";
import { Tile, grid, pair, spotlight } from "./tiles.js";

/** @import {Room, Track, View} from "./types" */

// How loud is "speaking", of 1; and for how long it shows, in ms.
const SPEAKING = 0.45;
const LINGERS = 800;
// Who rings a whole group does not need to see all of it.
const MAX_RUNG = 8;

/** @param {Room} room @param {{leaveCall: () => void}} actions */
export function callView(room, { leaveCall }) {
	const stage = h("div", { class: "stage" });
	const alone = h("p", { class: "hint" });
	const title = h("h1", { tabindex: "-1", dir: "auto" });
	const members = memberList(room);
	const invite = invitation(room);
	const notice = connectionNotice(room);
	const panel = h(
		"aside",
		{ class: "panel", id: "people", hidden: true, "aria-label": "People and the link" },
		members.element,
		invite.element,
	);
	const bar = controls(room, panel, { leaveCall, togglePanel, pip });
	/** @type {Map<string, Tile>} */
	const tiles = new Map();
	let pinned = "";
	let isMoving = false; // the picture in picture, to somebody else
	let isPanelOpen = innerWidth >= 900 && room.client.call.participants.size <= 1;
	let heard = -Infinity;
	const meter = new LevelMeter((level) => {
		const was = performance.now() - heard < LINGERS;
		if (level > SPEAKING) heard = performance.now();
		if (was !== performance.now() - heard < LINGERS) drawTiles();
	});

	function togglePanel() {
		if (panel.contains(document.activeElement)) bar.people.focus();
		isPanelOpen = !isPanelOpen;
		update();
	}

	/** Browsers wait for a touch before they play what nobody asked for, as after a reload; any will do. */
	const play = h("button", { type: "button", class: "primary play", hidden: true }, "Show picture, play sound");
	const touches = ["click", "pointerup", "touchend", "keydown"];
	const unblock = () => {
		if (play.hidden) return;
		hide(play, true, title);
		for (const tile of tiles.values()) tile.play(); // if it was not the right kind of touch, the button is back
	};
	for (const touch of touches) addEventListener(touch, unblock, { capture: true, passive: true });

	const theatre = h("div", { class: "theatre" }, stage, play);

	/** @param {string} id */
	function pin(id) {
		pinned = pinned === id ? "" : id;
		arrange();
	}

	async function pip() {
		if (document.pictureInPictureElement) return document.exitPictureInPicture();
		const others = [...tiles].filter(([id, { video }]) => id !== "me" && video.readyState > 0);
		const [, tile] = others.find(([id]) => id === largest()) ?? others[0] ?? [];
		if (!tile) throw new Error("There is no picture of somebody else yet.");
		await tile.video.requestPictureInPicture();
	}

	/** What is large: what was pinned, else somebody's screen. */
	function largest() {
		if (tiles.has(pinned)) return pinned;
		return views(room, false).find((view) => view.screen && !view.isMe)?.id ?? "";
	}

	function arrange() {
		const ids = [...tiles.keys()];
		const { clientWidth: width, clientHeight: height } = stage;
		const large = ids.indexOf(largest());
		const rects =
			large >= 0
				? spotlight(ids.length, large, width, height)
				: ids.length === 2
					? pair(width, height)
					: grid(ids.length, width, height);
		theatre.inert = !panel.hidden && getComputedStyle(panel).position === "absolute"; // it lies above
		stage.classList.toggle("pair", large < 0 && ids.length === 2);
		ids.forEach((id, at) => tiles.get(id)?.place(rects[at], id === pinned));
	}

	function drawTiles() {
		const shown = views(room, performance.now() - heard < LINGERS);
		reconcile(
			stage,
			shown,
			(view) => view.id,
			(view) => {
				const tile = new Tile(view, {
					pin,
					retry: (id) => room.mesh?.restart(id),
					route: (video) => room.devices.route(video),
					blocked: () => (play.hidden = false),
				});
				tiles.set(view.id, tile);
				return tile;
			},
		);
		const own = tiles.get("me")?.element;
		if (own !== alone.parentElement) own?.append(alone);
		for (const id of [...tiles.keys()]) if (!shown.some((view) => view.id === id)) tiles.delete(id);
		keepPip(shown);
		arrange();
	}

	/** The small picture is of somebody who is seen, or there is none: no last frame stands there. @param {View[]} shown */
	function keepPip(shown) {
		const small = document.pictureInPictureElement;
		if (!small || isMoving || small === tiles.get("me")?.video) return; // that is made small by the browser's own menu
		const seen = shown.filter(({ video, state }) => video && !["failed", "ringing"].includes(state));
		const videos = seen.flatMap(({ id, isMe }) => (isMe ? [] : (tiles.get(id)?.video ?? [])));
		if (videos.some((video) => video === small)) return;
		isMoving = true;
		const next = videos.find(({ readyState }) => readyState > 0);
		announce(next ? "Picture in picture shows somebody else now." : "Picture in picture has ended.");
		const moved = next ? next.requestPictureInPicture() : Promise.reject();
		moved
			.catch(() => document.exitPictureInPicture())
			.catch(() => {}) // closed meanwhile
			.finally(() => (isMoving = false));
	}

	function update() {
		say(title, room.place?.name ?? "");
		const isShown = isPanelOpen && room.group !== null; // of a group that is lost, there is nothing to show
		if (!isShown && panel.contains(document.activeElement)) title.focus();
		panel.hidden = !isShown;
		const isAlone = room.peers.length + room.client.call.outgoing.size === 0;
		say(alone, isAlone ? "You are the only one in the call. Ring somebody, or send the link." : "");
		meter.listen(room.devices.isMuted ? null : room.devices.audio);
		for (const part of [members, invite, notice, bar]) part.update();
		for (const tile of tiles.values()) tile.route();
		drawTiles();
	}

	/** @param {KeyboardEvent} event */
	function onKey({ key, target, repeat, ctrlKey, metaKey, altKey }) {
		if (document.querySelector("dialog")) return; // the keys are its own
		if (key === "Escape" && !panel.hidden) togglePanel();
		const isTyping = target instanceof Element && target.matches("input:not([type=checkbox]), select, textarea");
		const isOther = repeat || ctrlKey || metaKey || altKey || isTyping;
		if (!isOther && keysAreOn()) bar.press(key.toLowerCase());
	}

	const awake = keepAwake();
	const resizing = new ResizeObserver(arrange);
	resizing.observe(stage);
	addEventListener("keydown", onKey);
	room.devices.addEventListener("change", update);
	room.addEventListener("stats", drawTiles);
	update();
	return {
		element: h(
			"main",
			{ class: "call" },
			h("header", { class: "bar" }, title, notice.element),
			h("div", { class: "middle" }, theatre, panel),
			bar.element,
		),
		focus: title,
		update,
		close() {
			resizing.disconnect();
			removeEventListener("keydown", onKey);
			for (const touch of touches) removeEventListener(touch, unblock, { capture: true });
			room.devices.removeEventListener("change", update);
			room.removeEventListener("stats", drawTiles);
			meter.stop();
			bar.close();
			notice.close();
			awake.abort();
			if (document.pictureInPictureElement) document.exitPictureInPicture().catch(() => {});
			if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
		},
	};
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

/**
 * What the tiles show: oneself, the peers, and those who are being rung.
 * @param {Room} room @param {boolean} isSpeaking whether we are @returns {View[]}
 */
function views(room, isSpeaking) {
	const { client, devices } = room;
	const still = {
		isMe: false,
		stream: null,
		audio: false,
		video: false,
		screen: false,
		speaking: false,
		quality: null,
	};
	/** @type {View} */
	const me = {
		...still,
		id: "me",
		name: "You",
		face: room.group?.me.username,
		isMe: true,
		stream: ownStream(devices.video),
		...devices.state,
		speaking: isSpeaking,
		state: "connected",
	};
	const peers = room.peers.map(({ userId, stream, speaking, state, quality }) => {
		const media = room.mediaOf(userId);
		const [name, isHeard] = [room.nameOf(userId), speaking && media.audio];
		return {
			id: userId,
			name,
			isMe: false,
			isTwin: room.twins.has(userId),
			stream,
			...media,
			speaking: isHeard,
			state,
			quality,
		};
	});
	const { outgoing, participants } = client.call; // who accepts is in both for a moment
	const rung = [...outgoing.keys()]
		.filter((id) => !participants.has(id))
		.slice(0, MAX_RUNG)
		.map((id) => {
			return { ...still, id: `ring-${id}`, name: room.nameOf(id), state: /** @type {const} */ ("ringing") };
		});
	return [me, ...peers, ...rung];
}

/** Phones would turn off the screen, and with it the camera. The lock is lost whenever the page is hidden. */
function keepAwake() {
	const living = new AbortController();
	const ask = async () => {
		const lock = document.hidden ? null : await navigator.wakeLock?.request("screen").catch(() => null);
		if (living.signal.aborted) lock?.release();
		else living.signal.addEventListener("abort", () => lock?.release());
	};
	document.addEventListener("visibilitychange", ask, { signal: living.signal });
	ask();
	return living;
}
