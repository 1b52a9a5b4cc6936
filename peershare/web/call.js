// The call: the tiles, the bar below them, and the people beside them.

import { h, iconButton, reconcile, relabel, say } from "./dom.js";
import { attempt, connectionNotice, invitation, memberList } from "./group.js";
import { deviceButtons } from "./lobby.js";
import { LevelMeter, canShareScreen } from "./media.js";
import { keysAreOn, showSettings } from "./settings.js";
import { Tile, grid, pair, spotlight } from "./tiles.js";

/**
 * @typedef {import("./room.js").Room} Room
 * @typedef {import("./tiles.js").View} View
 */

// How loud is "speaking", of 1; and for how long it shows, in ms.
const SPEAKING = 0.45;
const LINGERS = 800;

/**
 * @param {Room} room
 * @param {{leaveCall: () => void}} actions
 */
export function callView(room, { leaveCall }) {
	const stage = h("div", { class: "stage" });
	const alone = h("p", { class: "hint" });
	const title = h("h1", { tabIndex: -1 });
	const members = memberList(room);
	const invite = invitation(room);
	const notice = connectionNotice(room);
	const panel = h(
		"aside",
		{ "class": "panel", "id": "people", "hidden": true, "aria-label": "People and the link" },
		members.element,
		invite.element,
	);
	const bar = controls(room, { leaveCall, togglePanel, pip });
	/** @type {Map<string, Tile>} */
	const tiles = new Map();
	let pinned = "";
	let heard = 0;
	const meter = new LevelMeter((level) => {
		const was = Date.now() - heard < LINGERS;
		if (level > SPEAKING) heard = Date.now();
		if (was !== Date.now() - heard < LINGERS) drawTiles();
	});

	function togglePanel() {
		panel.hidden = !panel.hidden;
		bar.update();
		arrange();
	}

	/** @param {string} id */
	function pin(id) {
		pinned = pinned === id ? "" : id;
		arrange();
	}

	async function pip() {
		const tile = tiles.get(largest()) ?? [...tiles.values()].at(-1);
		if (document.pictureInPictureElement) await document.exitPictureInPicture();
		else await tile?.video.requestPictureInPicture();
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
		stage.classList.toggle("pair", large < 0 && ids.length === 2);
		ids.forEach((id, at) => tiles.get(id)?.place(rects[at], id === pinned));
	}

	function drawTiles() {
		const shown = views(room, Date.now() - heard < LINGERS);
		reconcile(
			stage,
			shown,
			(view) => view.id,
			(view) => {
				const tile = new Tile(view, {
					pin,
					retry: (id) => room.mesh?.restart(id),
					route: (video) => room.devices.route(video),
				});
				tiles.set(view.id, tile);
				return tile;
			},
		);
		for (const id of [...tiles.keys()]) if (!shown.some((view) => view.id === id)) tiles.delete(id);
		arrange();
	}

	function update() {
		say(title, room.place?.name ?? "");
		const others = room.mesh?.peers.size ?? 0;
		say(
			alone,
			others || room.client.call.outgoing.size
				? ""
				: "You are the only one in the call. Ring somebody, or send the link.",
		);
		meter.listen(room.devices.isMuted ? null : room.devices.audio);
		for (const part of [members, invite, notice, bar]) part.update();
		for (const tile of tiles.values()) tile.route();
		drawTiles();
	}

	/** @param {KeyboardEvent} event */
	function onKey(event) {
		const isTyping =
			event.target instanceof Element && event.target.matches("input:not([type=checkbox]), select, textarea");
		if (
			isTyping ||
			event.ctrlKey ||
			event.metaKey ||
			event.altKey ||
			!keysAreOn() ||
			document.querySelector("dialog[open]")
		)
			return;
		bar.press(event.key.toLowerCase());
	}

	const awake = keepAwake();
	const resizing = new ResizeObserver(arrange);
	resizing.observe(stage);
	addEventListener("keydown", onKey);
	room.devices.addEventListener("change", update);
	const mesh = room.mesh;
	mesh?.addEventListener("stats", drawTiles);
	panel.hidden = innerWidth < 900 || (room.mesh?.peers.size ?? 0) > 0;
	update();
	return {
		element: h(
			"main",
			{ class: "call" },
			h("header", { class: "bar" }, title, notice.element),
			h("div", { class: "middle" }, h("div", { class: "theatre" }, stage, alone), panel),
			bar.element,
		),
		focus: title,
		update,
		close() {
			resizing.disconnect();
			removeEventListener("keydown", onKey);
			room.devices.removeEventListener("change", update);
			mesh?.removeEventListener("stats", drawTiles);
			meter.stop();
			notice.close();
			awake.abort();
			if (document.pictureInPictureElement) document.exitPictureInPicture().catch(() => {});
			if (document.fullscreenElement) document.exitFullscreen().catch(() => {});
		},
	};
}

/** @type {WeakMap<MediaStreamTrack, MediaStream>} */
const ownStreams = new WeakMap();

/** @param {MediaStreamTrack | null} track */
function ownStream(track) {
	if (!track) return null;
	const stream = ownStreams.get(track) ?? new MediaStream([track]);
	ownStreams.set(track, stream);
	return stream;
}

/**
 * What the tiles show: oneself, the peers, and those who are being rung.
 *
 * @param {Room} room
 * @param {boolean} isSpeaking whether we are
 * @returns {View[]}
 */
function views(room, isSpeaking) {
	const { client, devices, mesh } = room;
	const me = {
		id: "me",
		name: "You",
		isMe: true,
		stream: ownStream(devices.video),
		...devices.state,
		speaking: isSpeaking,
	};
	const peers = [...(mesh?.peers.values() ?? [])].map((peer) => {
		const told = client.call.participants.get(peer.userId);
		return {
			id: peer.userId,
			name: room.nameOf(peer.userId),
			isMe: false,
			stream: peer.stream,
			audio: told?.audio ?? true,
			video: told?.video ?? true,
			screen: told?.screen ?? false,
			speaking: peer.speaking && (told?.audio ?? true),
			state: peer.state,
			quality: peer.quality,
		};
	});
	const nothing = {
		isMe: false,
		stream: null,
		audio: false,
		video: false,
		screen: false,
		speaking: false,
		quality: null,
	};
	const rung = [...client.call.outgoing.keys()]
		.slice(0, 8)
		.map((id) => ({ ...nothing, id: `ring-${id}`, name: room.nameOf(id), state: /** @type {const} */ ("ringing") }));
	return [{ ...me, state: "connected", quality: null }, ...peers, ...rung];
}

/**
 * The bar. `press` does what a key stands for.
 *
 * @param {Room} room
 * @param {{leaveCall: () => void, togglePanel: () => void, pip: () => Promise<void>}} actions
 */
function controls(room, { leaveCall, togglePanel, pip }) {
	const { devices } = room;
	const { mic, camera, update: updateDevices } = deviceButtons(devices);
	const toggleScreen = async () => (devices.screen ? devices.stopScreen() : devices.shareScreen());
	const screen = iconButton("screen", "Share your screen", { class: "round", onclick: () => attempt(toggleScreen) });
	const people = iconButton("people", "People and the link", {
		"class": "round",
		"aria-controls": "people",
		"onclick": togglePanel,
	});
	const small = iconButton("pip", "Picture in picture", { class: "round rare", onclick: () => attempt(pip) });
	const full = iconButton("full", "Full screen", { class: "round rare", onclick: () => attempt(toggleFull) });
	const settings = iconButton("settings", "Settings", { class: "round", onclick: () => showSettings(devices) });
	const out = iconButton("hang-up", "Leave the call", { class: "round danger", onclick: leaveCall });
	screen.hidden = !canShareScreen();
	small.hidden = !document.pictureInPictureEnabled;
	full.hidden = !document.fullscreenEnabled;
	const keys = /** @type {Record<string, HTMLButtonElement>} */ ({
		"m": mic,
		"v": camera,
		"s": screen,
		"p": people,
		"i": small,
		"f": full,
		"?": settings,
	});
	for (const [key, button] of Object.entries(keys)) button.setAttribute("aria-keyshortcuts", key);

	function update() {
		updateDevices();
		const sharing = devices.screen !== null;
		relabel(screen, sharing ? "screen-off" : "screen", sharing ? "Stop sharing" : "Share your screen", {
			"aria-pressed": String(sharing),
		});
		people.setAttribute("aria-expanded", String(!document.getElementById("people")?.hidden));
	}
	return {
		element: h(
			"div",
			{ "class": "controls toolbar", "role": "toolbar", "aria-label": "Call" },
			mic,
			camera,
			screen,
			people,
			small,
			full,
			settings,
			out,
		),
		update,
		/** @param {string} key */
		press: (key) => keys[key]?.hidden === false && keys[key].click(),
	};
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

async function toggleFull() {
	if (document.fullscreenElement) await document.exitFullscreen();
	else await document.documentElement.requestFullscreen();
}
