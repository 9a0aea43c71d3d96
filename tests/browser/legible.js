// Notes in the document which texts of its pictures can't be read, as the attribute data-faults.
const faults = [];
for (const picture of document.querySelectorAll("svg")) {
  const frame = picture.getBoundingClientRect();
  const texts = [];
  for (const element of picture.querySelectorAll("text")) {
    const [text, box, matrix] = [element.textContent.trim(), element.getBoundingClientRect(), element.getScreenCTM()];
    const size = Number.parseFloat(getComputedStyle(element).fontSize) * Math.hypot(matrix.a, matrix.b);
    if (size < 9) faults.push(`${text} is too small`);
    const outside = [frame.left - box.left, box.right - frame.right, frame.top - box.top, box.bottom - frame.bottom];
    if (Math.max(...outside) > 1) faults.push(`${text} is cut`);
    for (const [other, place] of texts) {
      const width = Math.min(box.right, place.right) - Math.max(box.left, place.left);
      const height = Math.min(box.bottom, place.bottom) - Math.max(box.top, place.top);
      if (width > 1 && height > 2) faults.push(`${text} is over ${other}`);
    }
    texts.push([text, box]);
  }
  if (texts.length === 0) faults.push("a picture has no text");
}
if (document.documentElement.scrollWidth > innerWidth) faults.push("the page is too wide");
document.documentElement.setAttribute("data-faults", faults.join("; "));
