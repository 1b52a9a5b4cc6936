// The check's attempts: each ICE server by itself, and the connection to our own server.

import { BASE } from "./dom.js";

/** @import {CheckResults, CheckedServer, PeerShare} from "./types" */

const SESSION_TIMEOUT = 5_000; // ms
const SERVER_TIMEOUT = 8_000;

/** @param {number} milliseconds @returns {Promise<void>} */
export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Open the session, and tell how that went. @param {PeerShare} client @returns {Promise<CheckResults["session"]>} */
export function openSession(client) {
	return new Promise((resolve) => {
		client.addEventListener("state", ({ detail: { state } }) => {
			if (state === "online") resolve("works");
			else if (client.isRefused) resolve("refused");
			else if (state === "closed") resolve("ended");
		});
		client.open();
		// Nothing else of ours needs more than requests: what stops the one need not stop the other.
		sleep(SESSION_TIMEOUT)
			.then(() => fetch(`${BASE}api/health/live`, { cache: "no-store", signal: AbortSignal.timeout(2_000) }))
			.then(
				({ ok }) => resolve(ok ? "blocked" : "away"),
				() => resolve("away"),
			);
	});
}

/** See whether a STUN server answers. @param {string} url @returns {Promise<CheckedServer>} */
export async function checkStun(url) {
	let code = 0;
	const connection = new RTCPeerConnection({ iceServers: [{ urls: url }] });
	const answered = new Promise((resolve) => {
		connection.onicecandidateerror = ({ errorCode }) => (code = errorCode);
		connection.onicecandidate = ({ candidate }) => {
			if (candidate?.type === "srflx") resolve(true);
			// Where there is no NAT, the address is one that is known already, and there is no other.
			if (!candidate) resolve("onicecandidateerror" in connection && code === 0);
		};
	});
	try {
		connection.createDataChannel("check");
		await connection.setLocalDescription();
		const works = await Promise.race([answered, sleep(SERVER_TIMEOUT)]);
		return { url, outcome: works ? "works" : "fails", code };
	} finally {
		connection.close();
	}
}

/**
 * See whether a TURN server relays: two connections, each by a relay of its own, and a message there and back.
 * @param {string} url @param {RTCIceServer} credentials @returns {Promise<CheckedServer>}
 */
export async function checkTurn(url, { username, credential }) {
	let code = 0;
	let isAllocated = false;
	const options = {
		iceServers: [{ urls: url, username, credential }],
		iceTransportPolicy: /** @type {const} */ ("relay"),
	};
	const [one, other] = [new RTCPeerConnection(options), new RTCPeerConnection(options)];
	const failed = new Promise((resolve) => {
		for (const [from, to] of [
			[one, other],
			[other, one],
		]) {
			from.onicecandidateerror = ({ errorCode }) => (code = errorCode);
			from.onicecandidate = ({ candidate }) => {
				isAllocated ||= candidate?.type === "relay";
				if (candidate)
					to.addIceCandidate(candidate).catch(() => {}); // of an address that can't be used here
				else if (!isAllocated) resolve(null);
			};
			from.oniceconnectionstatechange = () => from.iceConnectionState === "failed" && resolve(null);
		}
	});
	const channel = one.createDataChannel("check");
	const answered = new Promise((resolve) => {
		let sentAt = 0;
		channel.onopen = () => {
			sentAt = performance.now();
			channel.send("");
		};
		channel.onmessage = () => resolve(performance.now() - sentAt);
		other.ondatachannel = ({ channel }) => (channel.onmessage = ({ data }) => channel.send(data));
	});
	try {
		await one.setLocalDescription();
		await other.setRemoteDescription(/** @type {RTCSessionDescription} */ (one.localDescription));
		await other.setLocalDescription();
		await one.setRemoteDescription(/** @type {RTCSessionDescription} */ (other.localDescription));
		const roundTrip = await Promise.race([answered, failed, sleep(SERVER_TIMEOUT)]);
		if (typeof roundTrip === "number") return { url, outcome: "works", code: 0, roundTrip };
		return { url, outcome: isAllocated ? "allocated" : "fails", code };
	} finally {
		one.close();
		other.close();
	}
}
