// The keyboard shortcuts of a call: keys, help texts, and whether they are on.

import { stored } from "./dom.js";

/** By the name of the button that a key presses, in the order of the help. */
export const KEYS = /** @type {const} */ ({
	microphone: { key: "m", label: "Mute or unmute" },
	camera: { key: "v", label: "Camera on or off" },
	screen: { key: "s", label: "Share your screen, or stop" },
	people: { key: "p", label: "People and the link" },
	pictureInPicture: { key: "i", label: "Picture in picture" },
	fullScreen: { key: "f", label: "Full screen" },
	settings: { key: "?", label: "These keys" },
});

/** The name of the button for a key, if it has one. @param {string} key */
export const buttonFor = (key) =>
	/** @type {(keyof typeof KEYS)[]} */ (Object.keys(KEYS)).find((name) => KEYS[name].key === key.toLowerCase());

const preference = stored("localStorage", "peershare.keys");

/** True if single keys do something: not everybody can avoid touching them (WCAG 2.1.4). */
export const keysAreOn = () => preference.get() !== false;

/** @param {boolean} isOn */
export const turnKeys = (isOn) => preference.set(isOn);
