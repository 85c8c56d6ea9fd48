// A device that logs in by oauth4webapi: node oauth4webapi.mjs ORIGIN FRONT
//
// It prints what device.mjs does, but for userinfo. It reaches the endpoints at FRONT.
import { setTimeout as sleep } from 'node:timers/promises'
import * as oauth from 'oauth4webapi'
import { fail, say } from './say.mjs'

const [issuer, front] = process.argv.slice(2)
const as = { issuer, device_authorization_endpoint: front + '/device_authorization', token_endpoint: front + '/token' }
const tv = { client_id: 'tv' }
const insecure = { [oauth.allowInsecureRequests]: true } // The server is on this computer.

// The package sends a request and reads an answer; the loop is the program's. This one does
// what the example in the package's documentation does: it goes on after two error codes and
// ends at everything else. So it ends at a lost connection, which deviceCodeGrantRequest
// throws as a TypeError (a program that caught it here and went on would survive), and it
// has no clock: that the code has expired, the server says.
async function poll({ device_code: code, interval = 5 }) {
  for (;;) {
    await sleep(interval * 1000)
    const response = await oauth.deviceCodeGrantRequest(as, tv, oauth.None(), code, insecure)
    try {
      return await oauth.processDeviceCodeResponse(as, tv, response)
    } catch (err) {
      if (err.error === 'slow_down') interval += 5
      else if (err.error !== 'authorization_pending') throw err
    }
  }
}

const scope = { scope: 'openid profile offline_access' }
const started = await oauth.deviceAuthorizationRequest(as, tv, oauth.None(), scope, insecure)
const shown = await oauth.processDeviceAuthorizationResponse(as, tv, started)
say(shown)
const issued = await poll(shown).catch(fail)
const response = await oauth.refreshTokenGrantRequest(as, tv, oauth.None(), issued.refresh_token, insecure)
const refreshed = await oauth.processRefreshTokenResponse(as, tv, response)
say({ issued, refreshed })
