// A device that logs in by openid-client: node device.mjs ORIGIN dpop|pkce [FRONT]
//
// It prints what it shows to a person, and, when it has tokens and has used them, what it
// was given, each as JSON on one line. With FRONT, it reaches the two endpoints of the grant
// there.
import * as client from 'openid-client'
import { fail, say } from './say.mjs'

const [origin, kind, front = origin] = process.argv.slice(2)

const found = await client.discovery(new URL(origin), 'tv', undefined, client.None(), {
  algorithm: 'oauth2',
  execute: [client.allowInsecureRequests], // The server is on this computer.
})
const server = {
  ...found.serverMetadata(),
  device_authorization_endpoint: front + '/device_authorization',
  token_endpoint: front + '/token',
}
const config = new client.Configuration(server, 'tv', undefined, client.None())
client.allowInsecureRequests(config)

const parameters = { scope: 'openid profile offline_access' }
let poll, options
if (kind === 'dpop') {
  options = { DPoP: client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256')) }
  parameters.dpop_jkt = await options.DPoP.calculateThumbprint()
} else {
  poll = { code_verifier: client.randomPKCECodeVerifier() }
  parameters.code_challenge = await client.calculatePKCECodeChallenge(poll.code_verifier)
  parameters.code_challenge_method = 'S256'
}

const shown = await client.initiateDeviceAuthorization(config, parameters)
say(shown)
const issued = await client.pollDeviceAuthorizationGrant(config, shown, poll, options).catch(fail)
const refreshed = await client.refreshTokenGrant(config, issued.refresh_token, undefined, options)
const userinfo = new URL(config.serverMetadata().userinfo_endpoint)
const answers = []
for (const { access_token: token } of [issued, refreshed]) {
  const response = await client.fetchProtectedResource(config, token, userinfo, 'GET', undefined, undefined, options)
  answers.push(await response.json())
}
say({ issued, refreshed, answers, verifier: poll?.code_verifier })
