package index

import bolt "go.etcd.io/bbolt"

// previous moves c to the entry before the one that it is at and returns it;
// nil if there is none. A page that the transaction has emptied stays in the
// tree until the commit, and bbolt's Prev stops there as if nothing were before
// it (bbolt 1.5.0; its Next and Last go on). Each further step leaves such a
// page behind, so there are at most as many as there are pages.
func previous(c *bolt.Cursor) (key, value []byte) {
	key, value = c.Prev()
	if key != nil {
		return key, value
	}
	tx := c.Bucket().Tx()
	for pages := tx.Size() / int64(tx.DB().Info().PageSize); key == nil && pages > 0; pages-- {
		key, value = c.Prev()
	}
	return key, value
}
