// A certified OpenID Connect provider (oidc-provider) for the tests of single sign-on.
//
// node provider.mjs <redirect_uri> prints its issuer. Who signs in stands in the header X-Claims of the request for the
// interaction: that takes the place of a page with a password.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';

const accounts = new Map();
const server = createServer();

server.listen(0, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      { client_id: 'lms', client_secret: 'a secret of the client', redirect_uris: [process.argv[2]] },
      { client_id: 'other', client_secret: 'another secret', redirect_uris: [process.argv[2]] },
    ],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    cookies: { keys: ['only for tests'] },
    ttl: { AuthorizationCode: 2, Interaction: 60, Session: 60, Grant: 60, AccessToken: 60, IdToken: 60 },
    features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true } },
    interactions: { url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, ...accounts.get(id) }) }),
  });
  const answer = provider.callback();
  server.on('request', async (request, response) => {
    if (!request.url.startsWith('/interaction/')) return answer(request, response);
    const details = await provider.interactionDetails(request, response);
    if (request.headers['x-deny']) {
      return provider.interactionFinished(request, response, { error: 'access_denied' });
    }
    const { sub, ...claims } = JSON.parse(request.headers['x-claims']);
    accounts.set(sub, claims);
    const grant = new provider.Grant({ accountId: sub, clientId: details.params.client_id });
    grant.addOIDCScope('openid email profile');
    const grantId = await grant.save();
    const result = { login: { accountId: sub }, consent: { grantId } };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  });
  console.log(issuer);
});
