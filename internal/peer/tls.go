package peer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/shoal-project/shoal/internal/bucket"
)

// alpn is HTTP/2 (RFC 9113), the one protocol that peers speak: one set of
// limits to hold.
const alpn = "h2"

// serverTLS asks every caller for a certificate and takes the key in it. Whether
// that key may ask for anything is decided at each request.
func serverTLS(own tls.Certificate) *tls.Config {
	return baseTLS(own, func(cs tls.ConnectionState) error {
		_, err := keyOf(cs)
		return err
	})
}

// clientTLS talks to the holder of want's key and to nobody else.
func clientTLS(own tls.Certificate, want bucket.PeerID) *tls.Config {
	return baseTLS(own, func(cs tls.ConnectionState) error {
		got, err := keyOf(cs)
		if err == nil && got != want {
			err = fmt.Errorf("%w: %s answers there", ErrWrongKey, got)
		}
		return err
	})
}

func baseTLS(own tls.Certificate, verify func(tls.ConnectionState) error) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{own},
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		ClientAuth:   tls.RequireAnyClientCert,
		// There are no names and no authorities to check: the key is the name,
		// and VerifyConnection, which also runs on the server, checks that.
		InsecureSkipVerify: true,
		VerifyConnection:   verify,
		// A ticket would let a connection begin without a proof of the key.
		SessionTicketsDisabled: true,
	}
}

// keyOf returns whose connection it is: the key of a self-signed Ed25519
// certificate, whose possession TLS has proven. Dates, names and usages in it
// mean nothing. The key may be a weak one: only compare it with checked IDs.
func keyOf(cs tls.ConnectionState) (bucket.PeerID, error) {
	if cs.NegotiatedProtocol != alpn {
		return "", errors.New("the other side does not speak HTTP/2")
	}
	if len(cs.PeerCertificates) != 1 {
		return "", fmt.Errorf("want one certificate, got %d", len(cs.PeerCertificates))
	}
	cert := cs.PeerCertificates[0]
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok || cert.SignatureAlgorithm != x509.PureEd25519 {
		return "", errors.New("the certificate is not of an Ed25519 key")
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return "", fmt.Errorf("the certificate is not self-signed: %w", err)
	}
	return bucket.PeerIDOf(key), nil
}

// certificate makes a self-signed certificate of the key. It is never stored:
// only the key in it counts.
func (i Identity) certificate() (tls.Certificate, error) {
	if i.key == nil {
		return tls.Certificate{}, errors.New("the identity is missing")
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: string(i.id)},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, section 4.1.2.5: no end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.key.Public(), i.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}, nil
}
