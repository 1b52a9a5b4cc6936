/**
 * What is done for a connection that is lost, or that is not made in time: one step after another, each `wait` ms after
 * the one before, until it is there.
 * @import {RecoveryStep} from "./types"
 */

export const LOST_DELAY = 3_000; // ms: so long, a connection may be "disconnected" before it counts as lost
export const CONNECT_TIMEOUT = 10_000; // ms for the first connection

/** @type {RecoveryStep[]} */
export const STEPS = [
	{ action: "restart", wait: 5_000 }, // ICE: other candidates, and the same connection
	{ action: "restart", wait: 5_000 },
	{ action: "renew", wait: 10_000 }, // another connection
	{ action: "relay", wait: 10_000 }, // another one, by TURN alone
	{ action: "renew", wait: 30_000, hasFailed: true },
	{ action: "relay", wait: 30_000, hasFailed: true },
];
const FIRST_SLOW = STEPS.findIndex(({ hasFailed }) => hasFailed);

/** The step that makes another connection. */
export const RENEW = STEPS.findIndex(({ action }) => action === "renew");

/**
 * The number of the next step. Those at the end are repeated.
 * @param {number} last -1 if none was taken
 * @param {{isNegotiated: boolean, mayRelay: boolean}} now `isNegotiated`: the other side has answered, so there is something to
 *   restart, and a way is what is missing. `mayRelay`: there are TURN servers, and not everything goes by them anyway.
 */
export const nextStep = (last, { isNegotiated, mayRelay }) => {
	const isUseful = { restart: isNegotiated, renew: true, relay: isNegotiated && mayRelay };
	const order = [...STEPS.keys()];
	const found = [...order.slice(last + 1), ...order.slice(FIRST_SLOW)].find((step) => isUseful[STEPS[step].action]);
	return /** @type {number} */ (found);
};
