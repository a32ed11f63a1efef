// node scan.mjs WORKER SCAN SCANNERS TLS PROFILE...: the example worker in workerd, over HTTPS, under each of these profiles, graded
// by the script SCAN (`tests/scanners/scan.mjs`) with the packages in SCANNERS. TLS is a folder with `cert.pem` and `key.pem`
// for localhost. Prints a JSON array of what the script says.
import { execFile } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { promisify } from "node:util";
import { bundled, example } from "./workers.mjs";

const [, , worker, scan, scanners, tls, ...profiles] = process.argv;
const folder = await bundled(worker, "example-scan");
const said = [];
for (const profile of profiles) {
  const mf = example(folder, {
    host: "localhost",
    httpsKeyPath: `${tls}/key.pem`,
    httpsCertPath: `${tls}/cert.pem`,
    bindings: { PROFILE: profile },
    // The worker's records are not what is printed here.
    handleRuntimeStdio: (...streams) => streams.forEach((stream) => stream.resume()),
  });
  const { port } = await mf.ready;
  const secure = `https://localhost:${port}`;
  const redirect = createServer((request, response) => response.writeHead(301, { location: secure + request.url }).end());
  await once(redirect.listen(0, "localhost"), "listening");
  try {
    const plain = `http://localhost:${redirect.address().port}/`;
    const options = { env: { ...process.env, NODE_EXTRA_CA_CERTS: `${tls}/cert.pem` } };
    const { stdout } = await promisify(execFile)(process.execPath, [scan, scanners, `${secure}/`, plain], options);
    said.push(JSON.parse(stdout));
  } finally {
    redirect.close();
    redirect.closeAllConnections();
    await mf.dispose();
  }
}
console.log(JSON.stringify(said));
